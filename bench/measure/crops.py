"""Parts of images to look at: where an engine gains most over bicubic, where least, and where it is furthest off."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np

from drc_deploy import metrics
from drc_deploy.files import write_bytes
from drc_deploy.metrics import UInt8Image

CROP_PX = 96
STEP_PX = 48
"""Side of a crop and distance between two candidates, in HR pixels."""

Box: TypeAlias = tuple[int, int, int, int]
"""Top, left, height, width in HR pixels."""
ErrorMap: TypeAlias = dict[Box, float]
"""Mean squared error of luma in each candidate of one image."""
ErrorMaps: TypeAlias = dict[str, ErrorMap]
"""By image."""
Place: TypeAlias = tuple[str, Box]
"""Image and box."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A crop worth looking at."""

    title: str
    image: str
    box: Box


def error_map(reference: UInt8Image, estimate: UInt8Image, border: int) -> ErrorMap:
    """Return the error of every candidate crop that keeps ``border`` pixels (the scale) from the image's edge."""
    squared = (metrics.luma(reference) - metrics.luma(estimate)) ** 2
    return {
        (top, left, height, width): float(squared[top : top + height, left : left + width].mean())
        for top, height in _spans(reference.shape[0], border)
        for left, width in _spans(reference.shape[1], border)
    }


def _spans(length: int, border: int) -> list[tuple[int, int]]:
    """Return start and length of the candidates along one axis, all on the LR grid of a scale of ``border``."""
    inner = (length - 2 * border) // border * border
    side = min(CROP_PX // border * border, inner)
    step = max(STEP_PX // border * border, border)
    return [(start, side) for start in range(border, border + inner - side + 1, step)]


def choose_crops(bicubic: ErrorMaps, engines: Sequence[ErrorMaps]) -> list[Choice]:
    """Choose up to three crops that do not overlap, by the mean over the engines."""
    places = [(image, box) for image, boxes in bicubic.items() for box in boxes]
    before = {(image, box): bicubic[image][box] for image, box in places}
    after = {(image, box): float(np.mean([maps[image][box] for maps in engines])) for image, box in places}
    values: dict[str, Callable[[Place], float]] = {
        "Largest gain over bicubic": lambda place: before[place] - after[place],
        "Smallest gain over bicubic": lambda place: after[place] - before[place],
        "Furthest from the original": lambda place: after[place],
    }
    choices: list[Choice] = []
    for title, value in values.items():
        free = [place for place in places if not any(_overlap(place, choice) for choice in choices)]
        if free:
            choices.append(Choice(title, *max(free, key=value)))
    return choices


def _overlap(place: Place, choice: Choice) -> bool:
    image, (top, left, height, width) = place
    other_top, other_left, other_height, other_width = choice.box
    in_rows = other_top - height < top < other_top + other_height
    in_columns = other_left - width < left < other_left + other_width
    return image == choice.image and in_rows and in_columns


def cut(image: UInt8Image, box: Box, divisor: int = 1) -> UInt8Image:
    """Return the part of an image; ``divisor`` is the scale when the image is the LR one."""
    top, left, height, width = (side // divisor for side in box)
    return image[top : top + height, left : left + width]


def crop_psnr(reference: UInt8Image, estimate: UInt8Image) -> float | None:
    """Return the PSNR of luma of a whole crop; None when it is infinite."""
    return metrics.psnr(metrics.luma(reference), metrics.luma(estimate))


def write_png(path: Path, image: UInt8Image) -> None:
    """Write (H, W, 3) uint8 RGB as PNG."""
    encoded = cv2.imencode(".png", np.ascontiguousarray(image[:, :, ::-1]))[1]
    write_bytes(path, encoded.tobytes())
