"""What a report says in words of other programs."""

from collections.abc import Sequence

from drc_deploy.bench.measure.latency import ratio_by_round
from drc_deploy.bench.report.records import EngineResult


def peer_lines(engines: Sequence[EngineResult]) -> list[str]:
    """Give a line per peer: its time as a part of that of our engine, how near its output is, how it was set."""
    ours = {engine.name: engine for engine in engines}
    return [_line(engine, ours.get(engine.peer.of)) for engine in engines if engine.peer is not None]


def _line(engine: EngineResult, ours: EngineResult | None) -> str:
    peer = engine.peer
    assert peer is not None
    pace = ""
    if ours is not None:
        ratio, interval = ratio_by_round(engine.latency, ours.latency)
        between = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
        pace = f"{ratio:.2f}{between} of the time of {peer.of}; "
    near = "the same output" if peer.psnr_to_ours_db is None else f"output within {peer.psnr_to_ours_db:.0f} dB of it"
    settings = ", ".join(f"{name} {value}" for name, value in peer.settings.items())
    timed = f"; a run is {peer.timed}" if peer.timed else ""
    return f"{engine.name}: {pace}{near}, differing by {peer.largest_difference} at most; {settings}{timed}."
