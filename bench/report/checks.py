"""Check whether a report is possible: files are edited, cut and merged by people and other programs."""

import dataclasses
import datetime
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from drc_deploy.bench.report.records import EngineResult, Report
from drc_deploy.errors import ArtefactError

LARGEST = 1e18
"""More than any number in a report: bytes, nanoseconds, hertz."""


def check_report(report: Report, source: str) -> None:
    """Check what the types of the fields do not say; ``source`` names the file in the error.

    Raises:
        ArtefactError: no run of ``drc-deploy bench`` gives this report.
    """
    fault = next(_faults(report), None)
    if fault:
        raise ArtefactError(f"{source} cannot be right: {fault}.", "Make it again with `drc-deploy bench`.")


def _faults(report: Report) -> Iterator[str]:
    try:
        datetime.datetime.fromisoformat(report.created)
    except ValueError:
        yield f"{report.created!r} is not a time"
    if not all(abs(number) < LARGEST for number in _numbers(dataclasses.asdict(report))):
        yield "a number is infinite, NaN, or larger than anything measured"
    if min(report.settings.height, report.settings.width) < 1:
        yield "the input has no pixels"
    if any(size is not None and size < 1 for size in _sizes(report)):
        yield "something takes no memory, or less than none"
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
        yield from (f"{file!r} is not a crop of this report" for file in strip.files if not _is_crop(file))


def _engine_faults(report: Report, engine: EngineResult) -> Iterator[str]:
    latency = engine.latency
    samples = [sample for round_ms in latency.rounds_ms for sample in round_ms]
    if not all(latency.rounds_ms) or not samples or min(*samples, latency.median_ms, latency.mean_ms) <= 0:
        yield f"{engine.name} has a round without a time, or a time that is not positive"
    if latency.runs != len(samples) or any(not 0 <= index < len(samples) for index in latency.outliers):
        yield f"{engine.name} has a number of runs that does not match its samples"
    if not engine.quality.rows:
        yield f"{engine.name} was scored on no image"
    if all(baseline.scale != engine.engine.scale for baseline in report.baselines):
        yield f"bicubic upscaling by {engine.engine.scale} is missing for {engine.name}"


def _sizes(report: Report) -> Iterator[int | None]:
    """Return every size in bytes, those that can be nothing with one byte more."""
    yield report.machine.memory_bytes
    for engine in report.engines:
        yield engine.size_bytes
        yield engine.peak_host_memory.value
        device = engine.peak_device_memory.value
        yield None if device is None else device + 1


def _is_crop(file: str) -> bool:
    """Return whether a file lies in the folder of crops: a page must not show, nor a copy take, any other."""
    parts = PurePosixPath(file).parts
    return len(parts) == 2 and parts[0] == "crops" and parts[1] != ".." and "\\" not in file


def _numbers(value: Any) -> Iterator[float]:
    """Return every number in dictionaries and sequences inside each other."""
    if isinstance(value, float | int):
        yield value
    elif isinstance(value, dict | tuple | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)
