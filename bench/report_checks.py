"""Whether a report that was read can be one: files are edited, cut and merged by people and other programs."""

import dataclasses
import datetime
import math
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from drc_deploy.errors import ArtefactError

if TYPE_CHECKING:
    from drc_deploy.bench.report import EngineResult, Report


def check_report(report: "Report", source: str) -> None:
    """Check what the types of the fields do not say; ``source`` names the file in the error.

    Raises:
        ArtefactError: no run of ``drc-deploy bench`` gives this report.
    """
    fault = next(_faults(report), None)
    if fault:
        raise ArtefactError(f"{source} cannot be right: {fault}.", "Make it again with `drc-deploy bench`.")


def _faults(report: "Report") -> Iterator[str]:
    try:
        datetime.datetime.fromisoformat(report.created)
    except ValueError:
        yield f"{report.created!r} is no time"
    if not all(math.isfinite(number) for number in _floats(report)):
        yield "a number is infinite or NaN"
    if min(report.settings.height, report.settings.width) < 1:
        yield "the input has no pixels"
    machine = report.machine
    for field in ("cpu", "memory_bytes"):
        if getattr(machine, field) is None and field not in machine.unavailable:
            yield f"the machine's {field} is missing without a reason"
    names = [engine.name for engine in report.engines]
    if len(set(names)) < len(names):
        yield "two engines have the same name"
    for engine in report.engines:
        yield from _engine_faults(report, engine)
    for strip in report.crops:
        yield from (f"{tile.file!r} is no crop of this report" for tile in strip.tiles if not _is_crop(tile.file))


def _engine_faults(report: "Report", engine: "EngineResult") -> Iterator[str]:
    latency = engine.latency
    samples = [sample for round_ms in latency.rounds_ms for sample in round_ms]
    if not all(latency.rounds_ms) or not samples or min(*samples, latency.median_ms, latency.mean_ms) <= 0:
        yield f"{engine.name} has a round without a time, or a time that is not positive"
    if not engine.quality.rows:
        yield f"{engine.name} was scored on no image"
    if all(baseline.scale != engine.engine.scale for baseline in report.baselines):
        yield f"bicubic upscaling by {engine.engine.scale} is missing beside {engine.name}"


def _is_crop(file: str) -> bool:
    """Tell whether a file lies in the folder of crops: a page must not show, nor a copy take, any other."""
    parts = PurePosixPath(file).parts
    return len(parts) == 2 and parts[0] == "crops" and parts[1] != ".." and "\\" not in file


def _floats(value: Any) -> Iterator[float]:
    """Give every floating-point number in a record."""
    if isinstance(value, float):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _floats(getattr(value, field.name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from _floats(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _floats(item)
