"""The section of single runs: each in the order of time, and how they are distributed."""

from collections.abc import Sequence

from drc_deploy.bench.report.records import EngineResult
from drc_deploy.bench.show import charts
from drc_deploy.bench.show.page_figures import COLOURS, NARROW_PX, WIDE_PX
from drc_deploy.bench.show.sections.distribution_chart import distributions


def runs_section(engines: Sequence[EngineResult]) -> str:
    """Show every timed run of engines that are sorted by latency."""
    bands = [
        charts.Band(
            mark=str(index + 1),
            label=engine.name,
            colour=index % COLOURS,
            samples_ms=[sample for round_ms in engine.latency.rounds_ms for sample in round_ms],
            median_ms=engine.latency.median_ms,
            p90_ms=engine.latency.p90_ms,
            outliers=engine.latency.outliers,  # `Latency` marks none
        )
        for index, engine in enumerate(engines)
    ]
    marked = " A ring marks an outlier." if any(band.outliers for band in bands) else ""
    return (
        '<section id="runs"><h2>Every timed run</h2>'
        "<p>A dot is one run, the first at the top of its band and the last at the bottom: a slope is drift. The line "
        f"is the median, the dashed line the 90th percentile.{marked}</p>"
        f"{charts.run_bands(bands, WIDE_PX)}{charts.run_bands(bands, NARROW_PX)}"
        "<h3>How steady each engine is</h3><p>What part of the runs took at most so many times the engine's own "
        "median: the steeper the curve, the steadier the engine; a long way to the top is a tail of slow runs.</p>"
        f"{distributions(bands, WIDE_PX)}{distributions(bands, NARROW_PX)}</section>"
    )
