"""The crops of reports as files: which are still there, and copies next to a page that is made elsewhere."""

import dataclasses
import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import TypeVar

from drc_deploy.bench.report.records import CROPS_FOLDER, CropStrip, CropVersion, KernelPicture, Report
from drc_deploy.errors import ArtefactError
from drc_deploy.files import write_bytes
from drc_deploy.input_files import read_bytes

Picture = TypeVar("Picture", CropVersion, KernelPicture)

PNG_START = b"\x89PNG\r\n\x1a\n"


def present_crops(report: Report, folder: Path) -> tuple[Report, str]:
    """Leave out the strips that lack a file in ``folder``; give what is left and a sentence about what is not."""
    whole = tuple(strip for strip in report.crops if all(_is_png(folder / file) for file in strip.files))
    gone = len(report.crops) - len(whole)
    note = f"{gone} of {len(report.crops)} crops are left out: their images are not in {folder / CROPS_FOLDER}."
    return dataclasses.replace(report, crops=whole), note if gone else ""


def _is_png(path: Path) -> bool:
    """Return whether a file is an image: no other file may be shown as one."""
    with suppress(ArtefactError):
        return read_crop(path).startswith(PNG_START)
    return False


def copy_crops(report: Report, folder: Path, out: Path, undo: ExitStack, prefix: str = "") -> Report:
    """Copy the crops from ``folder`` to ``out`` with ``prefix`` before their names.

    Args:
        report: names them.
        folder: of the report.
        out: another folder.
        undo: is taught to remove the copies that were not there before.
        prefix: of the names of the copies.

    Returns:
        The report, with the names of the copies.

    Raises:
        ArtefactError: one cannot be read.
        OutputError: one cannot be written.
    """

    def copied(pictures: Sequence[Picture]) -> tuple[Picture, ...]:
        done: list[Picture] = []
        for picture in pictures:
            target = f"{CROPS_FOLDER}/{prefix}{PurePosixPath(picture.file).name}"
            if not os.path.lexists(out / target):
                undo.callback((out / target).unlink, missing_ok=True)
            write_bytes(out / target, read_crop(folder / picture.file))
            done.append(dataclasses.replace(picture, file=target))
        return tuple(done)

    strips = (
        dataclasses.replace(strip, tiles=copied(strip.tiles), kernels=copied(strip.kernels)) for strip in report.crops
    )
    return dataclasses.replace(report, crops=tuple(strips))


def read_crop(path: Path) -> bytes:
    """Return the PNG of a crop.

    Raises:
        ArtefactError: it cannot be read.
    """
    try:
        return read_bytes(path)
    except OSError as error:
        reason = error.strerror or error
        raise ArtefactError(f"cannot read the crop {path}: {reason}.", "Run `drc-deploy bench` again.") from error


def merge_crops(reports: Sequence[Report]) -> tuple[CropStrip, ...]:
    """Return every place once, with every version of it once: machines give the same images."""
    strips: dict[tuple[object, ...], CropStrip] = {}
    for strip in (strip for report in reports for strip in report.crops):
        place = (strip.image, strip.scale, strip.box)
        known = strips.setdefault(place, strip)
        tiles, kernels = _with_new(known.tiles, strip.tiles), _with_new(known.kernels, strip.kernels)
        strips[place] = dataclasses.replace(known, tiles=tiles, kernels=kernels)
    return tuple(strips.values())


def _with_new(known: Sequence[Picture], others: Sequence[Picture]) -> tuple[Picture, ...]:
    by_label: dict[str, Picture] = {picture.label: picture for picture in known}
    for picture in others:
        by_label.setdefault(picture.label, picture)
    return tuple(by_label.values())
