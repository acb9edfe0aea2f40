"""Parts of an animation, and the canvas on which they become the pictures that a viewer shows.

A GIF or an APNG stores each part as a still image of its own, with the place that it changes and how. Pillow's own
composition is not used: it makes opaque pixels transparent where half-transparent ones are laid over them, keeps the
disposal of a GIF's earlier part where one has none, and fills what no part covers with a colour of the palette.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.images.metadata import Metadata
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.reading import decode_image, explained

Rgba = NDArray[np.uint8]
"""(H, W, 4), alpha straight."""


class AnimationFrame(NamedTuple):
    """A picture as a viewer shows it."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB or (H, W, 4) RGBA, alpha straight."""
    duration: Fraction
    """Seconds. Browsers show what has 0.01 or less for 0.1."""


class Disposal(Enum):
    """What becomes of the place of a part before the next one is shown."""

    KEEP = auto()
    CLEAR = auto()
    """It becomes transparent, in a GIF too: no viewer fills it with the background colour."""
    RESTORE = auto()
    """It becomes what it was before."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part, as its file describes it."""

    x: int
    y: int
    width: int
    height: int
    duration: Fraction
    """Seconds."""
    disposal: Disposal
    over: bool
    """Laid over what is there; else it takes its place, with its transparency."""
    still: Callable[[], bytes]
    """Returns the file of a still image of its pixels."""


@dataclass(frozen=True, slots=True)
class PartsFile:
    """An animation that is stored in parts."""

    parts: Sequence[Part]
    plays: int
    """How often it is shown; 0 is for ever."""


class Head(NamedTuple):
    """What a file of an animation says before its parts, besides their size."""

    frame_count: int
    plays: int
    """How often it is shown; 0 is for ever."""
    metadata: Metadata
    options: dict[str, Any]
    """For Pillow, where it encodes the parts."""


class AnimationWriter(ABC):
    """A file that grows part by part."""

    longest: ClassVar[Fraction]
    """Seconds that a part can be shown."""
    grid: ClassVar[int] = 1
    """Parts begin at multiples of it, in pixels."""
    whole: bool = False
    """Whether each part must be a whole picture."""

    @abstractmethod
    def __init__(self, stream: BinaryIO, layout: Layout, head: Head) -> None:
        """Begin a file of pictures of ``layout``."""

    @abstractmethod
    def add(self, patch: NDArray[Any], x: int, y: int, duration: Fraction) -> None:
        """Append a part.

        Args:
            patch: (h, w, 3) RGB or (h, w, 4) RGBA uint8, which takes the place of what is there.
            x: where its left column goes.
            y: where its upper row goes.
            duration: in seconds.
        """

    @abstractmethod
    def finish(self) -> None:
        """Write what stands at the end.

        Raises:
            OutputError: the file is larger than its format allows.
        """


def composed(parts: Sequence[Part], height: int, width: int, stream: BinaryIO, name: str) -> Iterator[AnimationFrame]:
    """Yield the frames of an animation as RGBA.

    Args:
        parts: in their order.
        height: of the canvas, in pixels.
        width: of the canvas, in pixels.
        stream: the file that the parts come from.
        name: what errors call it.

    Raises:
        ImageError: a part is damaged.
    """
    canvas = np.zeros((height, width, 4), np.uint8)
    for number, part in enumerate(parts, 1):
        place = canvas[part.y : part.y + part.height, part.x : part.x + part.width]
        before = place.copy()
        with explained(stream, frame_name(number, name)):
            patch = as_rgba(decode_image(part.still(), frame_name(number, name)).pixels)
        patch = patch[: len(place), : place.shape[1]]
        if place.size:  # of a GIF, a part may lie beyond the canvas
            place[:] = _laid_over(place, patch) if part.over else patch
        yield AnimationFrame(canvas.copy(), part.duration)
        if part.disposal is not Disposal.KEEP:
            place[:] = before if part.disposal is Disposal.RESTORE else 0


def frame_name(number: int, name: str) -> str:
    """Return what errors call a frame, counted from 1."""
    return f"frame {number} of {name}"


def as_rgba(pixels: NDArray[Any]) -> Rgba:
    """Return grey or RGB, with or without alpha, of 8 or 16 bits, as RGBA of 8 bits."""
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    planes = pixels.reshape(*pixels.shape[:2], -1)
    if planes.shape[2] in (1, 2):
        planes = planes[:, :, [0, 0, 0, *range(1, planes.shape[2])]]
    if planes.shape[2] == 4:
        return np.ascontiguousarray(planes)
    return np.dstack([planes, np.full(planes.shape[:2], 255, np.uint8)])


def _laid_over(place: Rgba, patch: Rgba) -> Rgba:
    return np.asarray(Image.alpha_composite(Image.fromarray(place), Image.fromarray(patch)))
