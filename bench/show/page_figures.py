"""The parts of the report page that hold figures and words: cards, table, machine and method."""

from collections.abc import Iterable, Sequence
from html import escape

from drc_deploy.bench.machine.memory import Reading
from drc_deploy.bench.measure.latency import SMALLEST_DIFFERENCE
from drc_deploy.bench.report.conclusions import (
    best_image,
    by_latency,
    comparable,
    gain_over_bicubic,
    own_engines,
    timed_otherwise,
)
from drc_deploy.bench.report.records import Baseline, EngineResult, Report
from drc_deploy.bench.show.console import STAR, decibels

MIB = 1 << 20
GIB = 1 << 30
COLOURS = 8
WIDE_PX, NARROW_PX = 1020, 340
"""Widths of each chart: for desktops, and for phones."""


def chip(index: int) -> str:
    """Return the coloured number of an engine; ``index`` is its place by latency."""
    return f'<span class="chip e{index % COLOURS}">{index + 1}</span>'


def signed(difference_db: float) -> str:
    """Return a difference in dB in the colour of its sign."""
    kind = "good" if difference_db >= 0 else "bad"
    return f'<span class="{kind}">{difference_db:+.2f}</span>'


def cards(report: Report) -> str:
    """Return the three or four figures to remember."""
    engines = own_engines(report.engines)
    if not engines:
        return ""
    rivals = comparable(engines)
    fastest, best = by_latency(rivals)[0], best_image(rivals)
    gain = gain_over_bicubic(report, best)
    entries = [
        ("Lowest median", f"{fastest.latency.median_ms:.1f} ms", fastest.name),
        _throughput(rivals),
        ("Best image", f"{decibels(best.quality.psnr_y)} dB", best.name),
    ]
    if gain is not None:
        entries.append(("Over bicubic", f"{gain:+.2f} dB", best.name))
    return f'<div class="cards">{"".join(_card(*entry) for entry in entries)}</div>'


def _throughput(engines: Sequence[EngineResult]) -> tuple[str, str, str]:
    """Return the card of the largest throughput of a stream; of single images where no stream was measured."""
    streams = {engine.name: engine.measurement.throughput for engine in engines if engine.measurement}
    if streams:
        name, stream = max(streams.items(), key=lambda item: item[1].images_per_second)
        return "Throughput of a stream", f"{stream.images_per_second:.1f} /s", name
    fastest = by_latency(engines)[0]
    return "Images a second, one at a time", f"{fastest.latency.images_per_second:.1f} /s", fastest.name


def _card(title: str, figure: str, engine: str) -> str:
    return f"<div><span>{title}</span><b>{figure}</b><span>{escape(engine)}</span></div>"


def table_section(report: Report) -> str:
    """Return every figure, and below the table why some are missing; nothing where nothing was measured."""
    if not report.engines:
        return ""
    headings = ("engine", "median ms", "p90", "p99", "images/s", "host MiB", "device MiB", "PSNR-Y", "gain", "SSIM-Y")
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    rows = "".join(_row(report, index, engine) for index, engine in enumerate(by_latency(report.engines)))
    rows += "".join(_baseline_row(baseline) for baseline in report.baselines)
    reasons = "".join(f"<p class='small'>{escape(reason)}</p>" for reason in _missing(by_latency(report.engines)))
    return (
        f'<section id="figures"><h2>All figures</h2><p>{escape(_words(report.engines))}</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="All figures">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"{reasons}</section>"
    )


def _words(engines: Sequence[EngineResult]) -> str:
    """Say how the table is sorted, what stands below the median or why it does not, and what the star means."""
    words = "Sorted by the median. Images a second are of one at a time."
    if any(engine.latency.median_interval_ms for engine in engines):
        words += " Below the median stands its 95 % confidence interval."
    bare = [engine.latency.unavailable for engine in engines if engine.latency.median_interval_ms is None]
    for reason in dict.fromkeys(unavailable.get("median_interval_ms", "unknown") for unavailable in bare):
        words += f" It has no confidence interval: {reason}."
    if any(map(timed_otherwise, engines)):
        words += f" What is marked {STAR} is timed otherwise, so its median does not compare, and it stands last."
    return words


def _row(report: Report, index: int, engine: EngineResult) -> str:
    latency = engine.latency
    gain = gain_over_bicubic(report, engine)
    cells = (
        _name_cell(index, engine),
        _median_cell(engine),
        _number(latency.p90_ms),
        _number(latency.p99_ms),
        f"{latency.images_per_second:.2f}<small>{latency.runs} runs</small>",
        _mebibytes(engine.peak_host_memory),
        _mebibytes(engine.peak_device_memory),
        decibels(engine.quality.psnr_y),
        "" if gain is None else signed(gain),
        f"{engine.quality.ssim_y:.4f}",
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _name_cell(index: int, engine: EngineResult) -> str:
    network, otherwise = engine.engine, timed_otherwise(engine)
    tile = f"tile {network.tile[0]}x{network.tile[1]}" if network.tile else "any size"
    lines = [
        f"{network.model} x{network.scale}, {network.precision}, {tile}, {network.params / 1e6:.2f} M parameters",
        engine.device,
        *([f"{STAR} a run is {otherwise}"] if otherwise else []),
    ]
    return f"{chip(index)} {escape(engine.name)}" + "".join(f"<small>{escape(line)}</small>" for line in lines)


def _median_cell(engine: EngineResult) -> str:
    interval, star = engine.latency.median_interval_ms, STAR if timed_otherwise(engine) else ""
    between = f"<small>{interval[0]:.1f} to {interval[1]:.1f}</small>" if interval else ""
    return f"{engine.latency.median_ms:.1f}{star}{between}"


def _baseline_row(baseline: Baseline) -> str:
    quality = baseline.quality
    cells = (f"bicubic x{baseline.scale}<small>quality only</small>", *[""] * 6, decibels(quality.psnr_y), "")
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}<td>{quality.ssim_y:.4f}</td></tr>"


def _missing(engines: Iterable[EngineResult]) -> list[str]:
    """Return for each figure that is missing one reason, that of the fastest engine without it."""
    reasons: dict[str, str] = {}
    for engine in engines:
        unavailable = engine.latency.unavailable
        for field, title in (("p90_ms", "p90"), ("p99_ms", "p99")):
            if field in unavailable:
                reasons.setdefault(title, f"{title}: {unavailable[field]} (more with --min-runs or --min-seconds).")
        for title, reading in (("host", engine.peak_host_memory), ("device", engine.peak_device_memory)):
            if reading.value is None:
                reasons.setdefault(title, f"{title} memory {reading.note}.")
    return list(reasons.values())


def machine_facts(report: Report) -> dict[str, str]:
    """Tell on what it was measured; an empty text stands for nothing to tell."""
    machine = report.machine
    unknown = machine.unavailable
    gpus = "; ".join(f"{gpu.name}, driver {gpu.driver}" for gpu in machine.gpus)
    return {
        "board": machine.board or "",
        "processor": f"{machine.cpu or 'unavailable: ' + unknown['cpu']}, {machine.logical_cores} cores usable",
        "memory": (
            f"{machine.memory_bytes / GIB:.1f} GiB"
            if machine.memory_bytes
            else f"unavailable: {unknown['memory_bytes']}"
        ),
        "GPU": gpus or f"unavailable: {unknown.get('gpus', 'none listed')}",
        "system": f"{machine.system}, Python {machine.python}",
        "packages": ", ".join(f"{name} {version}" for name, version in machine.packages.items()),
    }


def method_facts(report: Report) -> dict[str, str]:
    """Return how it was measured."""
    settings = report.settings
    threads = f"{settings.threads} a process" if settings.threads else "each library's own choice"
    facts = {
        "what is timed": (
            f"one {settings.width}x{settings.height} 8-bit image in memory to the upscaled 8-bit image in memory: "
            "tiling, copies and blending included, files not"
        ),
        "input": f"parts of these photographs, which take turns: {settings.input_image}",
        "runs": (
            f"at least {settings.min_runs} and {settings.min_seconds:g} s each, on a monotonic clock, in "
            f"{settings.rounds} rounds in which the engines take turns; warm-up until stable, kept apart"
        ),
        "comparison": (
            "how many times as fast: the centre, with its 95 % interval, of the ratios that each round gives; less "
            f"than {SMALLEST_DIFFERENCE:.0%}, or an interval that reaches 1, is a tie"
        ),
        "threads": threads,
        "quality": "PSNR and SSIM of luma (BT.601), border of the scale cut, 8-bit results, mean over the images",
        "images": settings.data,
        "low resolution": settings.lr_made_by,
    }
    facts["host memory"] = _notes(engine.peak_host_memory for engine in report.engines)
    facts["device memory"] = _notes(engine.peak_device_memory for engine in report.engines)
    return facts


def _notes(readings: Iterable[Reading]) -> str:
    return "; ".join(dict.fromkeys(reading.note for reading in readings))


def definitions(facts: dict[str, str]) -> str:
    """Return terms and texts as a list, nothing if it is empty; a term without a text is left out."""
    rows = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in facts.items() if text)
    return f"<dl>{rows}</dl>" if rows else ""


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1f}"


def _mebibytes(reading: Reading) -> str:
    return "n/a" if reading.value is None else f"{reading.value / MIB:.0f}"
