"""Grey and transparent images for networks that know only RGB."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import cv2
import numpy as np

from drc_deploy.runtime.backends.contract import Pixels

AlphaKind = Literal["none", "constant", "varying"]
"""A constant alpha stays as it is; one that varies is enlarged by the network."""


def alpha_kind(image: Pixels) -> AlphaKind:
    """Return which kind of alpha an image of 1 to 4 channels has. This reads all of it."""
    if image.ndim != 3 or image.shape[2] not in (2, 4):
        return "none"
    alpha = image[:, :, -1]
    return "varying" if (alpha != alpha[0, 0]).any() else "constant"


def upscaled_channels(
    image: Pixels, kind: AlphaKind, scale: int, upscale: Callable[[Pixels], Iterator[Pixels]]
) -> Iterator[Pixels]:
    """Upscale an image of 1 to 4 channels with a network that knows only RGB.

    Args:
        image: (H, W) or (H, W, 1 to 4).
        kind: of its alpha.
        scale: of the network.
        upscale: upscales (H, W, 3) in strips; called once more for an alpha that varies.

    Returns:
        Strips of the type and channels of ``image``, which follow each other from top to bottom.
    """
    colours, alpha = split_alpha(image)
    # `map` everywhere: unlike a generator, it holds nothing of a strip that it has passed on.
    finished = upscale(colours)
    if image.ndim == 2 or image.shape[2] <= 2:
        finished = map(_as_grey_channel, finished)
    if alpha is not None and kind == "varying":
        finished = map(_with_alpha, finished, _held(upscale(_as_rgb(alpha[:, :, None])), alpha, scale))
    elif alpha is not None:
        finished = map(partial(_with_alpha, alpha=alpha[:1, :1]), finished)
    return map(partial(_with_channels, shape=image.shape[2:]), finished)


def _as_grey_channel(rgb: Pixels) -> Pixels:
    return as_grey(rgb)[:, :, None]


def _with_channels(strip: Pixels, shape: tuple[int, ...]) -> Pixels:
    return strip.reshape(*strip.shape[:2], *shape)


def _held(strips: Iterator[Pixels], alpha: Pixels, scale: int) -> Iterator[Pixels]:
    """Return strips of alpha that was upscaled as a grey image, with what is opaque or clear held so.

    A network's 254 would show the background. Only pixels whose eight neighbours agree are held; between the two the
    network decides.
    """
    kernel, full = np.ones((3, 3), np.uint8), np.iinfo(alpha.dtype).max
    opaque, clear = (cv2.erode((alpha == value).astype(np.uint8), kernel).astype(bool) for value in (full, 0))
    row = 0
    for strip in map(as_grey, strips):
        rows = slice(row, row + len(strip) // scale)
        row = rows.stop
        # What each input pixel became: (height, width, scale, scale), a view.
        cells = strip.reshape(-1, scale, alpha.shape[1], scale).swapaxes(1, 2)
        cells[opaque[rows]] = full
        cells[clear[rows]] = 0
        yield strip


def _with_alpha(colours: Pixels, alpha: Pixels) -> Pixels:
    """Join (H, W, channels) and an alpha of (H, W), or of (1, 1) for all pixels."""
    alpha = np.broadcast_to(alpha, colours.shape[:2])
    return np.concatenate([colours, alpha[:, :, None]], axis=2)


def split_alpha(image: Pixels) -> tuple[Pixels, Pixels | None]:
    """Split an image of 1 to 4 channels into its colours and its alpha.

    Args:
        image: (H, W) or (H, W, 1 to 4), uint8 or uint16.

    Returns:
        (H, W, 3), three equal channels where the image is grey, without copying; and (H, W), or None.
    """
    if image.ndim == 2:
        image = image[:, :, None]
    channels = image.shape[2]
    if channels in (1, 3):
        return _as_rgb(image), None
    alpha = image[:, :, -1]
    return _as_rgb(fill_transparent(image[:, :, :-1], alpha)), alpha


def _as_rgb(image: Pixels) -> Pixels:
    """Show (H, W, 1) as (H, W, 3) without copying."""
    return np.broadcast_to(image, (*image.shape[:2], 3)) if image.shape[2] == 1 else image


def as_grey(rgb: Pixels) -> Pixels:
    """Return the luma (H, W) of (H, W, 3); three equal channels come back unchanged."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY))


def fill_transparent(colours: Pixels, alpha: Pixels) -> Pixels:
    """Paint every fully transparent pixel in the colour of the nearest visible one.

    The colour under alpha 0 is arbitrary, often black, and would bleed into the visible edge next to it.

    Args:
        colours: (H, W, 1 or 3).
        alpha: (H, W).

    Returns:
        ``colours`` itself when nothing or everything is transparent, else a new array.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return colours
    _, labels = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colour_of_label = np.zeros((int(labels.max()) + 1, colours.shape[2]), colours.dtype)
    colour_of_label[labels[~hidden]] = colours[~hidden]
    filled: Pixels = colour_of_label[labels]
    return filled
