"""What is stored in many ways, as plain pixels: palettes, CMYK and others as grey or RGB, and turned upright."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B")
"""Hold no colours; their colour profile may be of grey."""
CONVERTED_MODES = ("CMYK", "LAB")
"""Become sRGB by way of their colour profile, which does not describe the result."""


def plain(image: Image.Image) -> Image.Image:
    """Convert palette, bilevel, CMYK and other modes to L, LA, RGB or RGBA."""
    grey = image.mode in GREY_MODES
    if image.has_transparency_data:
        return _in_mode(image, "LA" if grey else "RGBA")
    if image.mode in CONVERTED_MODES:
        return _through_profile(image)
    return _in_mode(image, "L" if grey else "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    # Pillow's conversion copies what needs none.
    return image if image.mode == mode else image.convert(mode)


def _through_profile(image: Image.Image) -> Image.Image:
    """Convert CMYK or LAB to sRGB, by the file's own profile where it has a usable one."""
    embedded = image.info.get("icc_profile")
    try:
        source: Any = ImageCms.createProfile("LAB") if image.mode == "LAB" else None
        if embedded and image.mode == "CMYK":
            source = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        if source is not None:
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    except (ImageCms.PyCMSError, OSError):
        pass  # the profile is damaged, not the image
    return image.convert("RGB")


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror as the EXIF orientation (1 to 8) says; other values mean upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
