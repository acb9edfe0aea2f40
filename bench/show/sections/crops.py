"""The section of crops: each version of a part of an image, side by side and, where scripts run, under a slider."""

import base64
from html import escape
from pathlib import Path

from drc_deploy.bench.report.conclusions import by_latency
from drc_deploy.bench.report.records import CropStrip, CropVersion, Report
from drc_deploy.bench.show.page_figures import chip, signed
from drc_deploy.errors import ArtefactError


def crop_section(report: Report, folder: Path) -> str:
    """Show the crops of a report, whose files lie in ``folder``.

    Raises:
        ArtefactError: one of them is missing.
    """
    if not report.crops:
        return ""
    ranks = {engine.name: index for index, engine in enumerate(by_latency(report.engines))}
    strips = "".join(_strip(strip, ranks, folder) for strip in report.crops)
    return (
        '<section id="crops"><h2>Look for yourself</h2><p>Parts of the photographs in every version, beside the '
        "low-resolution input (LR) and the original (HR). They were chosen by the error alone, the bad ones too: "
        f"&ldquo;Furthest from the original&rdquo; is the worst part of all images that no other crop here shows.</p>"
        f"{strips}</section>"
    )


def _strip(strip: CropStrip, ranks: dict[str, int], folder: Path) -> str:
    """Return one crop: LR, bicubic, the engines from the fastest to the slowest, HR."""
    bicubic = next((tile.psnr_y for tile in strip.tiles if tile.label == "bicubic"), None)
    order = {"LR": -2, "bicubic": -1, **ranks, "HR": len(ranks)}
    tiles = sorted((tile for tile in strip.tiles if tile.label in order), key=lambda tile: order[tile.label])
    figures = "".join(_figure(tile, ranks.get(tile.label), bicubic, folder) for tile in tiles)
    top, left, height, width = strip.box
    place = f"{escape(strip.image)}, &times;{strip.scale}, {width}&times;{height} pixels at row {top}, column {left}"
    return (
        f'<div><h3>{escape(strip.title)} <span class="small">{place}</span></h3>'
        f'<div class="strip">{_slider(strip, [tile.label for tile in tiles])}'
        f'<div class="crops">{figures}</div></div></div>'
    )


def _slider(strip: CropStrip, labels: list[str]) -> str:
    """Return the controls of a slider between two versions; the script shows them and adds the images."""
    right = next((label for label in labels if label not in ("LR", "bicubic")), labels[-1])
    name = f"line between two versions of {strip.image}"
    return (
        f'<div class="slider" hidden><div class="stage" style="aspect-ratio: {strip.box[3]} / {strip.box[2]}">'
        f'<input type="range" min="0" max="100" value="50" aria-label="{escape(name)}"></div>'
        f'<div class="sides">{_choice("left", labels, "bicubic")}{_choice("right", labels, right)}</div></div>'
    )


def _choice(side: str, labels: list[str], chosen: str) -> str:
    options = "".join(_option(label, chosen=label == chosen) for label in labels)
    return f"<label>{side} <select>{options}</select></label>"


def _option(label: str, *, chosen: bool) -> str:
    # With a value of its own, as the browser would take superfluous spaces out of the text.
    return f'<option value="{escape(label)}"{" selected" if chosen else ""}>{escape(label)}</option>'


def _figure(tile: CropVersion, rank: int | None, bicubic: float | None, folder: Path) -> str:
    mark = "" if rank is None else f"{chip(rank)} "
    figures = "" if tile.psnr_y is None else f"{tile.psnr_y:.2f} dB"
    if tile.psnr_y is not None and bicubic is not None and rank is not None:
        figures += f" {signed(tile.psnr_y - bicubic)}"
    return (
        f'<figure><img alt="{escape(tile.label)}" src="data:image/png;base64,{_base64(folder / tile.file)}">'
        f"<figcaption>{mark}{escape(tile.label)}<small>{figures}</small></figcaption></figure>"
    )


def _base64(path: Path) -> str:
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise ArtefactError(f"cannot read the crop {path}: {error}.", "Run `drc-deploy bench` again.") from error
