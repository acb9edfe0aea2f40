"""``report.html``: one self-contained page made from a ``Report`` and its crops; it needs no network.

Its one script turns the crops into sliders; without it they stand side by side.
"""

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path

from drc_deploy.bench.machine.memory import Reading
from drc_deploy.bench.measure.latency import SMALLEST_DIFFERENCE
from drc_deploy.bench.report.conclusions import best_image, by_latency, comparable, gain_over_bicubic, own_engines
from drc_deploy.bench.report.crop_files import read_crop
from drc_deploy.bench.report.records import CropStrip, CropVersion, EngineResult, Report
from drc_deploy.bench.show.chart_sections import runs_section, speed_section, telemetry_section
from drc_deploy.bench.show.figures import decibels
from drc_deploy.bench.show.tables import figures_section, layers_section, measured_section
from drc_deploy.bench.show.view import Cell, Section, render

GIB = 1 << 30


def render_page(report: Report, folder: Path) -> str:
    """Return the page as text.

    Raises:
        ArtefactError: a crop is missing.
    """
    engines = by_latency(report.engines)
    sections = [speed_section(report, scale) for scale in sorted({engine.engine.scale for engine in engines})]
    sections += [figures_section(report), measured_section(report), crops_section(report, folder)]
    sections += [runs_section(engines), telemetry_section(report), layers_section(engines)]
    sections += [not_measured_section([("", report)]), _method_section(report)]
    return render(
        "report.html",
        report=report,
        gpus=", ".join(gpu.name for gpu in report.machine.gpus),
        cards=cards(report),
        notes=report.warnings,
        sections=[section for section in sections if section],
    )


def cards(report: Report) -> list[tuple[str, str, str]]:
    """Return the three or four main figures: title, figure, engine."""
    engines = own_engines(report.engines)
    if not engines:
        return []
    compared = comparable(engines)
    fastest, best = by_latency(compared)[0], best_image(compared)
    gain = gain_over_bicubic(report, best)
    found = [
        ("Lowest median", f"{fastest.latency.median_ms:.1f} ms", fastest.name),
        _throughput(compared),
        ("Best image", f"{decibels(best.quality.psnr_y)} dB", best.name),
    ]
    return found if gain is None else [*found, ("Gain over bicubic", f"{gain:+.2f} dB", best.name)]


def _throughput(engines: Sequence[EngineResult]) -> tuple[str, str, str]:
    """Return the card of the largest throughput of a stream; of single images where no stream was measured."""
    streams = {engine.name: engine.measurement.throughput for engine in engines if engine.measurement}
    if streams:
        name, stream = max(streams.items(), key=lambda item: item[1].images_per_second)
        return "Throughput of a stream", f"{stream.images_per_second:.1f} /s", name
    fastest = by_latency(engines)[0]
    return "Images per second, one at a time", f"{fastest.latency.images_per_second:.1f} /s", fastest.name


def crops_section(report: Report, folder: Path) -> Section | None:
    """Show the crops of a report, whose files lie in ``folder``; None without crops.

    Raises:
        ArtefactError: one of them is missing.
    """
    if not report.crops:
        return None
    ranks = {engine.name: index for index, engine in enumerate(by_latency(report.engines))}
    return Section(
        "crops", "Details of images", "crops", {"strips": [_strip(one, ranks, folder) for one in report.crops]}
    )


def _strip(strip: CropStrip, ranks: dict[str, int], folder: Path) -> dict[str, object]:
    """Return one crop: LR, bicubic, the engines from the fastest to the slowest, HR."""
    bicubic = next((tile.psnr_y for tile in strip.tiles if tile.label == "bicubic"), None)
    order = {"LR": -2, "bicubic": -1, **ranks, "HR": len(ranks)}
    tiles = sorted((tile for tile in strip.tiles if tile.label in order), key=lambda tile: order[tile.label])
    labels = [tile.label for tile in tiles]
    return {
        "crop": strip,
        "labels": labels,
        "right": next((label for label in labels if label not in ("LR", "bicubic")), labels[-1]),
        "figures": [_figure(tile, ranks.get(tile.label), bicubic, folder) for tile in tiles],
        "kernels": [
            {
                "name": Cell(each.label, engine=ranks.get(each.label)),
                "png": _png(folder / each.file),
                "error": "" if each.error is None else f"{each.error:.0%} elsewhere",
            }
            for each in strip.kernels
        ],
    }


def _png(path: Path) -> str:
    return base64.b64encode(read_crop(path)).decode()


def _figure(tile: CropVersion, rank: int | None, bicubic: float | None, folder: Path) -> dict[str, object]:
    gain = None
    if tile.psnr_y is not None and bicubic is not None and rank is not None:
        difference_db = tile.psnr_y - bicubic
        gain = Cell(f"{difference_db:+.2f}", kind="good" if difference_db >= 0 else "bad")
    return {
        "name": Cell(tile.label, engine=rank),
        "png": _png(folder / tile.file),
        "psnr": "" if tile.psnr_y is None else f"{tile.psnr_y:.2f} dB",
        "gain": gain,
    }


def not_measured_section(reports: Iterable[tuple[str, Report]]) -> Section | None:
    """Name the engines without a result, and why; each report comes with its label, empty for a single one."""
    items = [(label, item) for label, report in reports for item in report.not_measured]
    return Section("not-measured", "Not measured", "not_measured", {"items": items}) if items else None


def _method_section(report: Report) -> Section:
    """Return on what, how and with which files and programs it was measured, and how to repeat it."""
    view = {
        "report": report,
        "machine": machine_facts(report),
        "host_memory": _notes(engine.peak_host_memory for engine in report.engines),
        "device_memory": _notes(engine.peak_device_memory for engine in report.engines),
        "engines": by_latency(report.engines),
        "smallest": f"{SMALLEST_DIFFERENCE:.0%}",
    }
    return Section("method", "Machine, method and files", "method", view)


def _notes(readings: Iterable[Reading]) -> str:
    return "; ".join(dict.fromkeys(reading.note for reading in readings))


def machine_facts(report: Report) -> dict[str, str]:
    """Return the machine that measured; a fact without a text is left out."""
    machine = report.machine
    missing = {name: f"unavailable: {reason}" for name, reason in machine.unavailable.items()}
    gpus = "; ".join(f"{gpu.name}, driver {gpu.driver}" for gpu in machine.gpus)
    memory = f"{machine.memory_bytes / GIB:.1f} GiB" if machine.memory_bytes else missing["memory_bytes"]
    return {
        "board": machine.board or "",
        "processor": f"{machine.cpu or missing['cpu']}, {machine.logical_cores} cores usable",
        "memory": memory,
        "GPU": gpus or missing.get("gpus", "unavailable: none listed"),
        "system": f"{machine.system}, Python {machine.python}",
        "packages": ", ".join(f"{name} {version}" for name, version in machine.packages.items()),
    }
