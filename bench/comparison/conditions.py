"""Conditions that differed between two runs. Some forbid a comparison; others, such as a version, may be the point."""

from collections.abc import Iterator
from dataclasses import dataclass

from drc_deploy.bench.report.merged import shared_baselines
from drc_deploy.bench.report.records import Report

PIXELS = "pixels for quality"
"""Condition that differs where PSNR was measured on other images."""


@dataclass(frozen=True, slots=True)
class ChangedCondition:
    """One condition that was not the same."""

    what: str
    before: str
    after: str
    forbids: bool
    """Whether milliseconds, memory or PSNR of the two runs mean different things."""


def find_differences(before: Report, after: Report) -> tuple[ChangedCondition, ...]:
    """Return the conditions that differed; a fact that only one report has does not count."""
    setups, programs = (_setup(before), _setup(after)), (_programs(before), _programs(after))
    return (*_differing(*setups, forbids=True), *_images(before, after), *_differing(*programs, forbids=False))


def _differing(before: dict[str, str], after: dict[str, str], *, forbids: bool) -> Iterator[ChangedCondition]:
    for what, value in before.items():
        if value and after.get(what) and value != after[what]:
            yield ChangedCondition(what, value, after[what], forbids)


def _setup(report: Report) -> dict[str, str]:
    """Return the machine, its settings, and the input that was timed; an unknown fact is empty or left out."""
    machine, settings = report.machine, report.settings
    facts = {
        "board": machine.board or "none",
        "processor": machine.cpu or "",
        "usable cores": str(machine.logical_cores),
        "GPU": ", ".join(gpu.name for gpu in machine.gpus) or "none",
        "power limit of the GPU": ", ".join(f"{gpu.power_limit_w:g} W" for gpu in machine.gpus if gpu.power_limit_w),
        "input size": f"{settings.height}x{settings.width}",
        "input image": settings.input_image,
        "threads": str(settings.threads or "each library's own choice"),
    }
    state = report.telemetry.state if report.telemetry else None
    if state:
        facts["power mode"] = state.power_mode or ""
        facts["governor of the processor"] = state.cpu_governor or ""
        facts["clocks"] = {True: "locked", False: "free", None: ""}[state.clocks_locked]
    return facts


def _programs(report: Report) -> dict[str, str]:
    """Return versions, and how much was measured. A comparison is often about a version."""
    machine, settings = report.machine, report.settings
    return {
        "drc-deploy": report.version,
        "system": machine.system,
        "Python": machine.python,
        "driver of the GPU": ", ".join(gpu.driver for gpu in machine.gpus),
        "energy is of": ", ".join(sorted({engine.energy.covers for engine in report.engines if engine.energy})),
        "runs": f"at least {settings.min_runs} and {settings.min_seconds:g} s in {settings.rounds} rounds",
        **{name: version for name, version in machine.packages.items() if name != "drc-deploy"},
    }


def _images(before: Report, after: Report) -> Iterator[ChangedCondition]:
    """Compare bicubic upscaling, which is the same for the same pixels, rather than the paths of folders.

    A run that was stopped has the first images only; PSNR is then compared on those.
    """
    for scale, (first, second) in shared_baselines(before, after).items():
        sides = f"{len(first)} images ({before.settings.data})", f"{len(second)} images ({after.settings.data})"
        fewer = min(len(first), len(second))
        if not fewer or first[:fewer] != second[:fewer]:
            yield ChangedCondition(f"{PIXELS} at x{scale}", *sides, forbids=True)
        elif len(first) != len(second):
            yield ChangedCondition(f"images at x{scale} (the first {fewer} are compared)", *sides, forbids=False)
