"""The crops of reports as files: which are still there, and copies next to a page that is made elsewhere."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from drc_deploy.bench.report.records import CROPS_FOLDER, CropStrip, CropVersion, Report
from drc_deploy.errors import ArtefactError
from drc_deploy.files import write_bytes

PNG_START = b"\x89PNG\r\n\x1a\n"


def present_crops(report: Report, folder: Path) -> tuple[Report, str]:
    """Leave out the strips that lack a file in ``folder``; give what is left and a sentence about what is not."""
    whole = tuple(strip for strip in report.crops if all(_is_png(folder / tile.file) for tile in strip.tiles))
    gone = len(report.crops) - len(whole)
    note = f"{gone} of {len(report.crops)} crops are left out: their images are not in {folder / CROPS_FOLDER}."
    return dataclasses.replace(report, crops=whole), note if gone else ""


def _is_png(path: Path) -> bool:
    """Return whether a file is an image of a crop, and no other file that would be shown as one."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(PNG_START)) == PNG_START
    except OSError:
        return False


def copy_crops(report: Report, folder: Path, out: Path, prefix: str = "") -> Report:
    """Copy the crops from ``folder`` to ``out`` with ``prefix`` before their names; give the report that names them.

    Raises:
        ArtefactError: one cannot be read.
        OutputError: one cannot be written.
    """

    def copied(tile: CropVersion) -> CropVersion:
        target = f"{CROPS_FOLDER}/{prefix}{PurePosixPath(tile.file).name}"
        write_bytes(out / target, _read(folder / tile.file))
        return dataclasses.replace(tile, file=target)

    strips = (dataclasses.replace(strip, tiles=tuple(copied(tile) for tile in strip.tiles)) for strip in report.crops)
    return dataclasses.replace(report, crops=tuple(strips))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtefactError(f"cannot read the crop {path}: {error}.", "Run `drc-deploy bench` again.") from error


def merge_crops(reports: Sequence[Report]) -> list[CropStrip]:
    """Return every place once, with every version of it once: machines give the same images."""
    strips: dict[tuple[object, ...], CropStrip] = {}
    for strip in (strip for report in reports for strip in report.crops):
        place = (strip.image, strip.scale, strip.box)
        known = strips.get(place)
        tiles = _once([*(known.tiles if known else ()), *strip.tiles])
        strips[place] = dataclasses.replace(known or strip, tiles=tiles)
    return list(strips.values())


def _once(tiles: Iterable[CropVersion]) -> tuple[CropVersion, ...]:
    by_label: dict[str, CropVersion] = {}
    for tile in tiles:
        by_label.setdefault(tile.label, tile)
    return tuple(by_label.values())
