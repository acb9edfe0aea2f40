"""The changes between two reports, engine by engine, for ``drc-deploy bench compare``."""

import math
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from drc_deploy.bench.comparison.conditions import ChangedCondition, find_differences
from drc_deploy.bench.measure.latency import RunRatio, ratio_of_runs
from drc_deploy.bench.measure.quality import Quality
from drc_deploy.bench.report.records import EngineResult, Report
from drc_deploy.errors import InputError
from drc_deploy.metrics import mean_psnr

SAME_SHARE = 0.05
"""Latencies of two runs that differ by less than this part count as the same: runs of one engine differ by as much."""

MatchedBy = Literal["name", "checkpoint"]
Result = Literal["faster", "slower", "no significant change", "too much variation"]

STEADY_SPREAD = 0.10
"""Where the middle half of the runs spans more than this part of the median, another program used the machine."""
NOISY_SPREADS = 2.0
"""On such a machine a change must be so many times as large as the span. Ten runs of the same two files on a busy one
gave 42 pairs. 16 of them have an interval without 1 by chance; none passes this limit."""


@dataclass(frozen=True, slots=True)
class Match:
    """The same engine in both reports."""

    before: EngineResult
    after: EngineResult
    matched_by: MatchedBy


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both reports; None where a report does not have it."""

    before: float | None
    after: float | None

    @property
    def growth(self) -> float | None:
        """The part by which it grew: 0.1 is a tenth more. None where it is unknown, infinite where it was nothing."""
        if self.before is None or self.after is None:
            return None
        if self.before == 0:
            return math.inf if self.after else 0.0
        return self.after / self.before - 1


@dataclass(frozen=True, slots=True)
class EngineChange:
    """One engine, before and after."""

    name: str
    """In the second report."""
    name_before: str
    matched_by: MatchedBy
    file: Literal["same", "made again", "other checkpoint"]
    """``same``: byte for byte. ``made again``: another file from the same checkpoint."""
    median_ms: Change
    latency: RunRatio
    result: Result
    """Of the latency. ``faster`` and ``slower``: the interval excludes 1, and the change is larger than ``SAME_SHARE``.
    On a noisy machine they must exceed the noise as well (``STEADY_SPREAD``, ``NOISY_SPREADS``)."""
    peak_host_memory_bytes: Change
    peak_device_memory_bytes: Change
    psnr_y_db: Change
    """Of the images that both reports have; None for images without any error, whose PSNR is infinite."""
    energy_per_image_j: Change


@dataclass(frozen=True, slots=True)
class ReportComparison:
    """All changes between two reports."""

    before: str
    """File of the first report."""
    after: str
    before_created: str
    after_created: str
    summary: str
    differences: tuple[ChangedCondition, ...]
    engines: tuple[EngineChange, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    notes: tuple[str, ...]
    """What makes the figures less than certain."""


def compare_reports(before: Report, after: Report, files: tuple[str, str], *, force: bool = False) -> ReportComparison:
    """Compare two reports, which come from these ``files``.

    Raises:
        InputError: one has no engine, they have none in common, or they do not compare and ``force`` is not set.
    """
    sides = tuple(zip(files, (before, after), strict=True))
    for file, report in sides:
        if not report.engines:
            raise InputError(f"{file} has no measured engine.", "See the reasons in it, and measure again.")
    differences = find_differences(before, after)
    grave = [f"{item.what} ({item.before} before, {item.after} after)" for item in differences if item.forbids]
    if grave and not force:
        raise InputError(
            f"the reports do not compare: they differ in {', '.join(grave)}.",
            "Measure both in the same way on one machine, or compare them anyway with --force.",
        )
    matches = match_engines(before.engines, after.engines)
    if not matches:
        names = " and ".join(", ".join(engine.name for engine in report.engines) for report in (before, after))
        raise InputError(
            f"the reports have no engine in common: {names}.", "Engines match by name, or by checkpoint and precision."
        )
    engines = tuple(_change(match) for match in matches)
    warnings = (f"{file}: {text}" for file, report in sides for text in report.warnings)
    return ReportComparison(
        before=files[0],
        after=files[1],
        before_created=before.created,
        after_created=after.created,
        summary=_summary(engines),
        differences=differences,
        engines=engines,
        only_before=_left_over(before, {match.before.name for match in matches}),
        only_after=_left_over(after, {match.after.name for match in matches}),
        notes=(*warnings, *_notes(engines, differences)),
    )


def match_engines(before: Sequence[EngineResult], after: Sequence[EngineResult]) -> list[Match]:
    """Pair the engines, in the order of ``before``: by name, and the others by checkpoint, precision and device.

    An engine whose checkpoint matches two others is left out.
    """
    matches: list[Match] = []
    for matched_by in get_args(MatchedBy):
        first = _by_key(matched_by, before, [match.before.name for match in matches])
        second = _by_key(matched_by, after, [match.after.name for match in matches])
        matches += [Match(first[key], second[key], matched_by) for key in first if key in second]
    names = [engine.name for engine in before]
    return sorted(matches, key=lambda match: names.index(match.before.name))


def _by_key(kind: MatchedBy, engines: Sequence[EngineResult], matched: Collection[str]) -> dict[Hashable, EngineResult]:
    """Return the engines that have no match yet by what their partners share, without those that share it here."""
    rest = [engine for engine in engines if engine.name not in matched]
    keys = [_key(kind, engine) for engine in rest]
    return {key: engine for key, engine in zip(keys, rest, strict=True) if keys.count(key) == 1}


def _key(kind: MatchedBy, engine: EngineResult) -> Hashable:
    network = engine.engine
    if kind == "name":
        return engine.name, network.scale  # figures of two scales never compare
    return network.checkpoint_sha256, network.scale, network.precision, network.tile, engine.device


def _change(match: Match) -> EngineChange:
    before, after = match.before, match.after
    latency = ratio_of_runs(before.latency, after.latency)
    return EngineChange(
        name=after.name,
        name_before=before.name,
        matched_by=match.matched_by,
        file=_file(before, after),
        median_ms=Change(before.latency.median_ms, after.latency.median_ms),
        latency=latency,
        result=_result(latency, max(_spread(before), _spread(after))),
        peak_host_memory_bytes=Change(before.peak_host_memory.value, after.peak_host_memory.value),
        peak_device_memory_bytes=Change(before.peak_device_memory.value, after.peak_device_memory.value),
        psnr_y_db=_psnr_change(before.quality, after.quality),
        energy_per_image_j=_energy_change(before, after),
    )


def _file(before: EngineResult, after: EngineResult) -> Literal["same", "made again", "other checkpoint"]:
    if before.sha256 == after.sha256:
        return "same"
    same_source = before.engine.checkpoint_sha256 == after.engine.checkpoint_sha256
    return "made again" if same_source else "other checkpoint"


def _result(latency: RunRatio, spread: float) -> Result:
    noise = 1 + NOISY_SPREADS * spread
    if spread > STEADY_SPREAD and 1 / noise < latency.ratio < noise:
        return "too much variation"
    if not latency.significant or 1 / (1 + SAME_SHARE) < latency.ratio < 1 + SAME_SHARE:
        return "no significant change"
    return "slower" if latency.ratio > 1 else "faster"


def _spread(engine: EngineResult) -> float:
    """Return the range of the middle half of the runs, as a part of the median: one slow run does not count."""
    low, high = np.quantile([sample for round_ms in engine.latency.rounds_ms for sample in round_ms], [0.25, 0.75])
    return float(high - low) / engine.latency.median_ms


def _psnr_change(before: Quality, after: Quality) -> Change:
    """Compare on the images that both have; where they share none, on the images that each has."""
    shared = {row.image for row in before.rows} & {row.image for row in after.rows}
    if not shared:
        return Change(before.psnr_y, after.psnr_y)
    first, second = (mean_psnr([row.psnr_y for row in side.rows if row.image in shared]) for side in (before, after))
    return Change(first, second)


def _energy_change(before: EngineResult, after: EngineResult) -> Change:
    """Return the energies; None for both where they are of different parts of the machine."""
    first, second = before.energy, after.energy
    if first and second and first.covers != second.covers:
        return Change(None, None)
    return Change(first.per_image_j if first else None, second.per_image_j if second else None)


def _summary(engines: Sequence[EngineChange]) -> str:
    """Count the results and name the largest change."""
    counts = {word: sum(engine.result == word for engine in engines) for word in ("slower", "faster")}
    clear = [engine for engine in engines if engine.result in counts]
    compared = f"{len(engines)} engine{'s' if len(engines) > 1 else ''} compared"
    noisy = sum(engine.result == "too much variation" for engine in engines)
    if not clear:
        none = f"too much variation between runs in {noisy}" if noisy else "no significant change of latency"
        return f"{compared}: {none}."
    most = max(clear, key=lambda engine: abs(engine.latency.ratio - 1))
    counted = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{compared}: {counted}; {most.name} takes {most.latency.ratio:.2f} times as long."


def _left_over(report: Report, matched: Collection[str]) -> tuple[str, ...]:
    return tuple(engine.name for engine in report.engines if engine.name not in matched)


def _notes(engines: Sequence[EngineChange], differences: Sequence[ChangedCondition]) -> Iterator[str]:
    """Report changes whose cause is probably not an engine."""
    ratios = [engine.latency.ratio for engine in engines]
    changed = [engine for engine in engines if engine.result in ("faster", "slower")]
    if len(changed) == len(engines) > 1 and max(ratios) / min(ratios) < 1 + SAME_SHARE:
        yield (
            f"Every engine takes {min(ratios):.2f} to {max(ratios):.2f} times as long: "
            "look for the cause in the machine, or in a library that all of them use."
        )
    same = [engine.name for engine in changed if engine.file == "same"]
    if same and not differences:
        yield f"The same file with the same programs has another latency: {', '.join(same)}. The machine changed."
