"""Throughput, accuracy and comparisons of engines, as lines for a terminal."""

from collections.abc import Iterable, Mapping, Sequence

from drc_deploy.bench.measure.fidelity import ImageDifference
from drc_deploy.bench.measure.latency import Latency, LatencyRatio, ratio_by_round
from drc_deploy.bench.measure.measurement import EngineOnly, Measurement
from drc_deploy.bench.report.records import EngineResult, ProgramResult, Report


def peer_lines(engines: Sequence[EngineResult]) -> list[str]:
    """Return a line for each other program: its time as a part of our engine's, its output, its settings."""
    latencies = {engine.name: engine.latency for engine in engines}
    return [_line(engine, engine.program, latencies) for engine in engines if engine.program]


def _line(engine: EngineResult, program: ProgramResult, latencies: Mapping[str, Latency]) -> str:
    pace = ""
    if program.of in latencies:
        ratio, interval = ratio_by_round(engine.latency, latencies[program.of])
        between = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
        pace = f"{ratio:.2f}{between} of the time of {program.of}; "
    near = "identical output"
    if program.psnr_to_ours_db is not None:
        near = f"PSNR between the outputs {program.psnr_to_ours_db:.0f} dB, "
        near += f"largest difference {program.largest_difference}"
    settings = ", ".join(f"{name} {value}" for name, value in program.settings.items())
    timed = f"; a run is {program.timed}" if program.timed else ""
    return f"{engine.name}: {pace}{near}; {settings}{timed}."


def measured_lines(report: Report) -> list[str]:
    """Return one line for each engine, and one for each comparison."""
    measured = [(engine.name, engine.measurement) for engine in report.engines if engine.measurement is not None]
    lines = [f"{name}: {'; '.join(_parts(found))}." for name, found in measured]
    return [*lines, *map(comparison_text, report.comparisons)]


def comparison_text(item: LatencyRatio) -> str:
    """Say how two engines compare."""
    between = f" ({item.interval[0]:.3f} to {item.interval[1]:.3f})" if item.interval else ""
    same = "not significantly different" if item.interval else "too few rounds to compare"
    result = "significantly different" if item.different else same
    return f"{item.engine} against {item.other}: {item.speedup:.3f}x as fast{between}, {result}."


def _parts(found: Measurement) -> Iterable[str]:
    network, stream = found.engine_only, found.throughput
    share, interval = host_share_text(network)
    yield f"network only {network.latency.median_ms:.2f} ms per batch, host share {share} ({interval})"
    if network.split is not None:
        split = network.split
        yield f"upload {split.upload_ms:.2f}, compute {split.compute_ms:.2f}, download {split.download_ms:.2f} ms"
        yield from split.checks
    yield f"stream {stream.images_per_second:.2f} images/s, {stream.output_megapixels_per_second:.1f} Mpixel/s out"
    yield f"output against torch {difference_text(found.torch.difference, found.torch.note)}"
    yield f"tiled against untiled {difference_text(found.seam.difference, found.seam.note)}"


def host_share_text(network: EngineOnly) -> tuple[str, str]:
    """Return the host's share and its interval: 19% with 12 to 27%, or the interval alone where it includes 0."""
    share, interval = f"{network.host_share:.0%}", network.host_share_interval
    if interval is None:
        return share, "too few rounds for an interval"
    low, high = interval
    between = f"{round(100 * low)} to {high:.0%}"
    return (between, "not significantly different from 0") if low <= 0 <= high else (share, between)


def difference_text(difference: ImageDifference | None, note: str) -> str:
    """Return a difference in dB; ``note`` where none was measured."""
    if difference is None:
        return note
    return "identical" if difference.psnr_db is None else f"{difference.psnr_db:.1f} dB"
