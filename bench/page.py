"""``report.html``: one self-contained page made from a ``Report`` and its crops; it needs no network and no script."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from drc_deploy.bench import charts, page_figures
from drc_deploy.bench.console import decibels
from drc_deploy.bench.page_style import STYLE
from drc_deploy.bench.report import PAGE_FILE, CropStrip, EngineResult, NotMeasured, Report, Tile
from drc_deploy.bench.verdict import by_latency, gain_over_bicubic
from drc_deploy.errors import ArtefactError
from drc_deploy.files import write_text

WIDE_PX, NARROW_PX = 1020, 340


def write_page(report: Report, folder: Path) -> Path:
    """Write ``report.html`` into ``folder``, where the crops of the report lie, and give its path.

    Raises:
        ArtefactError: a crop is missing.
        OutputError: the page cannot be written.
    """
    path = folder / PAGE_FILE
    write_text(path, render_page(report, folder))
    return path


def render_page(report: Report, folder: Path) -> str:
    """Give the page as text."""
    engines = by_latency(report.engines)
    body = [_header(report), page_figures.cards(report)]
    if report.warnings:
        body.append(f'<div class="note">{"".join(f"<p>{escape(text)}</p>" for text in report.warnings)}</div>')
    body += [_scatter_section(report, scale) for scale in sorted({engine.engine.scale for engine in engines})]
    if engines:
        body.append(_runs_section(engines))
    body += [crop_section(report, folder), page_figures.table_section(report)]
    body += [_not_measured_section(report.not_measured), page_figures.method_section(report)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>drc-deploy bench: {escape(report.created)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _header(report: Report) -> str:
    machine = report.machine
    where = machine.board or machine.cpu or machine.system
    gpus = ", ".join(gpu.name for gpu in machine.gpus)
    return (
        '<header><p class="kicker">drc-deploy bench</p>'
        f"<h1>{escape(report.summary)}</h1>"
        f"<p>{escape(where)}{escape(f' with {gpus}' if gpus else '')} · {report.created[:16].replace('T', ' ')} UTC · "
        f"input {report.settings.width}&times;{report.settings.height}</p></header>"
    )


def _scatter_section(report: Report, scale: int) -> str:
    rivals = [engine for engine in by_latency(report.engines) if engine.engine.scale == scale]
    points = [_point(report, engine, engine.quality.psnr_y) for engine in rivals if engine.quality.psnr_y is not None]
    if not points:
        return ""
    bicubic = report.baseline(scale).psnr_y
    drawings = charts.scatter(points, bicubic, WIDE_PX, 440) + charts.scatter(points, bicubic, NARROW_PX, 330)
    legend = "".join(_legend_entry(report, engine) for engine in rivals)
    return (
        f"<section><h2>Speed against quality, &times;{scale}</h2>"
        "<p>Left is faster, up is closer to the original. The area of a disc is the peak host memory.</p>"
        f'{drawings}<ul class="legend">{legend}</ul></section>'
    )


def _point(report: Report, engine: EngineResult, psnr_db: float) -> charts.Point:
    index = by_latency(report.engines).index(engine)
    return charts.Point(
        mark=str(index + 1),
        label=engine.name,
        colour=index % page_figures.COLOURS,
        latency_ms=engine.latency.median_ms,
        psnr_db=psnr_db,
        memory_bytes=engine.peak_host_memory.value,
    )


def _legend_entry(report: Report, engine: EngineResult) -> str:
    index = by_latency(report.engines).index(engine)
    gain = gain_over_bicubic(report, engine)
    figures = f"{engine.latency.median_ms:.1f} ms, {decibels(engine.quality.psnr_y)} dB"
    if gain is not None:
        figures += f" ({gain:+.2f})"
    return f'<li>{page_figures.chip(index)} {escape(engine.name)} <span class="small">{figures}</span></li>'


def _runs_section(engines: Sequence[EngineResult]) -> str:
    bands = [
        charts.Band(
            mark=str(index + 1),
            label=engine.name,
            colour=index % page_figures.COLOURS,
            samples_ms=[sample for round_ms in engine.latency.rounds_ms for sample in round_ms],
            median_ms=engine.latency.median_ms,
            p90_ms=engine.latency.p90_ms,
        )
        for index, engine in enumerate(engines)
    ]
    return (
        "<section><h2>Every timed run</h2>"
        "<p>A dot is one run, the first at the top of its band and the last at the bottom: a slope is drift. The line "
        "is the median, the dashed line the 90th percentile.</p>"
        f"{charts.run_bands(bands, WIDE_PX)}{charts.run_bands(bands, NARROW_PX)}</section>"
    )


def crop_section(report: Report, folder: Path) -> str:
    """Show the crops of a report, which lie in ``folder``; the engines are numbered by latency."""
    if not report.crops:
        return ""
    ranks = {engine.name: index for index, engine in enumerate(by_latency(report.engines))}
    strips = "".join(_strip(strip, ranks, folder) for strip in report.crops)
    return (
        "<section><h2>Look for yourself</h2><p>Parts of the photographs in every version, beside the low-resolution "
        "input (LR) and the original (HR). They were chosen by the error alone, the bad ones too.</p>"
        f"{strips}</section>"
    )


def _strip(strip: CropStrip, ranks: dict[str, int], folder: Path) -> str:
    """Give one crop: LR, bicubic, the engines from the fastest to the slowest, HR."""
    bicubic = next((tile.psnr_y for tile in strip.tiles if tile.label == "bicubic"), None)
    order = {"LR": -2, "bicubic": -1, **ranks, "HR": len(ranks)}
    tiles = sorted((tile for tile in strip.tiles if tile.label in order), key=lambda tile: order[tile.label])
    figures = "".join(_figure(tile, ranks.get(tile.label), bicubic, folder) for tile in tiles)
    top, left, height, width = strip.box
    place = f"{escape(strip.image)}, &times;{strip.scale}, {width}&times;{height} pixels at row {top}, column {left}"
    return f'<h3>{escape(strip.title)} <span class="small">{place}</span></h3><div class="crops">{figures}</div>'


def _figure(tile: Tile, rank: int | None, bicubic: float | None, folder: Path) -> str:
    chip = "" if rank is None else f"{page_figures.chip(rank)} "
    figures = "" if tile.psnr_y is None else f"{tile.psnr_y:.2f} dB"
    if tile.psnr_y is not None and bicubic is not None and rank is not None:
        figures += f" {page_figures.signed(tile.psnr_y - bicubic)}"
    return (
        f'<figure><img alt="{escape(tile.label)}" src="data:image/png;base64,{_base64(folder / tile.file)}">'
        f"<figcaption>{chip}{escape(tile.label)}<small>{figures}</small></figcaption></figure>"
    )


def _base64(path: Path) -> str:
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise ArtefactError(f"cannot read the crop {path}: {error}.", "Run `drc-deploy bench` again.") from error


def _not_measured_section(left_out: Iterable[NotMeasured]) -> str:
    rows = "".join(
        f"<dt>{escape(item.name)}</dt><dd><b>{item.kind}</b>: {escape(item.reason)} "
        f'<span class="small">{escape(item.hint)}</span></dd>'
        for item in left_out
    )
    return f"<section><h2>Not measured</h2><dl>{rows}</dl></section>" if rows else ""
