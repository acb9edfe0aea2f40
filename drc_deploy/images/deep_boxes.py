"""Samples of more than 8 bits in JPEG 2000, JPEG XL and HEIC as 16 bits; Pillow keeps 8."""

import importlib
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import ImageError
from drc_deploy.images.boxes import read_jpeg_2000
from drc_deploy.images.opening import BITS

FORMATS = ("JPEG2000", "JXL", "HEIF")
"""Names in Pillow."""
_DEPTH = 16
_GREY_OR_RGB = (16, 17, None)
"""Colour spaces of a JPEG 2000 by number; None is one with a colour profile or without any box."""
_CHANNELS = (1, 3, 4)


def is_deep(image: Image.Image, stream: BinaryIO, name: str) -> bool:
    """Return whether a file of ``FORMATS`` has more than 8 bits a sample; ``name`` is what messages call it.

    Raises:
        ImageError: its samples cannot be decoded without a loss.
    """
    bits = image.info[BITS]
    if image.format == "JXL":
        if image.mode == "LA" and bits != 8:  # whose grey pillow-jxl-plugin takes for its alpha
            raise ImageError(f"{name} holds grey with transparency of more than 8 bits.", "Convert it to RGB first.")
        return image.mode == "I;16"  # of colours, its reader keeps 8 bits
    if image.format == "HEIF":
        return bool(bits > 8)
    if not bits or max(map(abs, bits)) <= 8:
        return False
    position = stream.tell()
    stream.seek(0)
    colours = read_jpeg_2000(stream.read()).coded_colour
    stream.seek(position)
    for refused, what in (
        (min(bits) < 0, "signed samples"),
        (len(set(bits)) > 1, "channels of different depths"),
        (max(bits) > _DEPTH, f"samples of {max(bits)} bits"),
        (len(bits) not in _CHANNELS, f"{len(bits)} channels of {max(bits)} bits"),
        (colours not in _GREY_OR_RGB, f"{max(bits)}-bit samples that are neither grey nor RGB"),
    ):
        if refused:
            raise ImageError(f"{name} holds {what}.", "Convert it to 8- or 16-bit grey or RGB first.")
    return True


def read_deep(image: Image.Image, stream: BinaryIO) -> NDArray[np.uint16]:
    """Decode what ``is_deep`` was true for.

    Returns:
        (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA with the whole range of 16 bits. HEIC and JPEG XL are upright.

    Raises:
        ValueError: the file is damaged.
    """
    stream.seek(0)
    if image.format == "JXL":
        return np.asarray(image, np.uint16)
    if image.format == "HEIF":
        heif = importlib.import_module("pillow_heif").open_heif(stream, convert_hdr_to_8bit=False)
        bits = image.info[BITS]
        return _whole_range(np.asarray(heif) >> (_DEPTH - bits), bits)  # it fills up with zeros
    decoded: Any = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise ValueError("its samples of more than 8 bits cannot be decoded")
    if decoded.ndim == 3:
        decoded = decoded[:, :, [2, 1, 0, 3][: decoded.shape[2]]]
    return _whole_range(decoded, image.info[BITS][0])


def _whole_range(samples: NDArray[np.uint16], bits: int) -> NDArray[np.uint16]:
    most, full = 2**bits - 1, 2**_DEPTH - 1
    if bits == _DEPTH:
        return np.ascontiguousarray(samples)
    return np.asarray((samples.astype(np.uint32) * full + most // 2) // most, np.uint16)
