"""Samples of 16 bits: Pillow keeps only the upper 8, so OpenCV reads them, and this makes them plain.

OpenCV returns a TIFF as it is stored. Its tags are applied here, or the file is refused.
"""

import struct
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import ImageError
from drc_deploy.images import deep_boxes

_BITS_PER_SAMPLE_TAG, _PHOTOMETRIC_TAG, _SAMPLES_PER_PIXEL_TAG = 258, 262, 277
_KIND_OF_PAGE_TAG, _DNG_VERSION_TAG, _REDUCED = 254, 50706, 1
"""NewSubfileType with its bit for a smaller version of another picture (TIFF 6.0), and DNG 1.4."""
_PLANAR_TAG, _EXTRA_SAMPLES_TAG, _SAMPLE_FORMAT_TAG = 284, 338, 339
_UNSIGNED, _SEPARATE_PLANES = 1, 2
_WHITE_IS_ZERO, _CMYK = 0, 5
_NO_ALPHA, _PREMULTIPLIED = 0, 1
"""TIFF 6.0: values of the tags above."""
_MAX_PIXELS = 2**30
"""What OpenCV decodes at most."""
_FULL = np.uint16(65535)
_PNG_SIGNATURE, _PNG_GREY_ALPHA = b"\x89PNG", 4
_PNG_HEADER = struct.Struct(">8x8xIIBB")
"""Signature and chunk head; then width, height, bits per sample, colour type."""


def has_16_bits(image: Image.Image, stream: BinaryIO, name: str) -> bool:
    """Return whether an opened file has 16 bits a sample; ``name`` is what messages call it.

    Raises:
        ImageError: its samples would have to be rounded, or cannot be decoded.
    """
    if image.format == "PNG":
        position = stream.tell()
        bits, _ = _png_header(stream)
        stream.seek(position)
    elif image.format == "TIFF":
        bits = _tiff_bits(image.tag_v2, name)  # type: ignore[attr-defined]
    elif image.format in deep_boxes.FORMATS:
        bits = 16 if deep_boxes.is_deep(image, stream, name) else 8
    else:
        return False
    if bits == 16 and image.width * image.height > _MAX_PIXELS:
        raise ImageError(f"{name} is too large for 16 bits: {image.width}x{image.height}.", "Cut the image into parts.")
    return bits == 16


def _tiff_bits(tags: Any, name: str) -> int:
    bits, kind = max(tags.get(_BITS_PER_SAMPLE_TAG, (1,))), max(tags.get(_SAMPLE_FORMAT_TAG, (_UNSIGNED,)))
    several = tags.get(_SAMPLES_PER_PIXEL_TAG, 1) > 1
    for refused, what in (
        (
            _DNG_VERSION_TAG in tags or tags.get(_KIND_OF_PAGE_TAG, 0) & _REDUCED,
            "a raw photograph, and shows a preview of it",
        ),
        (kind != _UNSIGNED or bits > 16, "floating-point, signed or 32-bit samples"),
        (8 < bits < 16, f"samples of {bits} bits"),
        (bits == 16 and tags.get(_PHOTOMETRIC_TAG) == _CMYK, "CMYK samples of 16 bits"),
        (bits == 16 and several and tags.get(_PLANAR_TAG) == _SEPARATE_PLANES, "16-bit samples in a plane per channel"),
    ):
        if refused:
            raise ImageError(f"{name} holds {what}.", "Convert it to 8- or 16-bit grey or interleaved RGB first.")
    return int(bits)


def _png_header(stream: BinaryIO) -> tuple[int, int]:
    """Return bits per sample and colour type of a PNG."""
    stream.seek(0)
    _, _, bits, colour_type = _PNG_HEADER.unpack(stream.read(_PNG_HEADER.size))
    return bits, colour_type


def read_16_bits(image: Image.Image, stream: BinaryIO) -> NDArray[np.uint16]:
    """Decode what ``has_16_bits`` was true for.

    Args:
        image: the file in Pillow, loaded.
        stream: the file.

    Returns:
        (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA, alpha straight. TIFF, HEIC and JPEG XL
        are upright.

    Raises:
        ValueError: the file is damaged.
    """
    if image.format in deep_boxes.FORMATS:
        return deep_boxes.read_deep(image, stream)
    stream.seek(0)
    content = stream.read()
    decoded: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise ValueError("its 16-bit samples cannot be decoded")
    if decoded.ndim == 2:
        return _plain_grey(decoded, image)
    if decoded.shape[2] == 3:
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))
    if content.startswith(_PNG_SIGNATURE) and _png_header(stream)[1] == _PNG_GREY_ALPHA:
        return np.ascontiguousarray(decoded[:, :, [0, 3]])
    return _plain_rgba(np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA)), image)


def _plain_grey(grey: NDArray[np.uint16], image: Image.Image) -> NDArray[np.uint16]:
    """Turn a negative, and make alpha of the one transparent grey that a PNG may name."""
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
        return np.asarray(_FULL - grey)
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    return np.dstack([grey, np.where(grey == transparent, np.uint16(0), _FULL)])


def _plain_rgba(rgba: NDArray[np.uint16], image: Image.Image) -> NDArray[np.uint16]:
    """Leave out a fourth sample that is no alpha, and divide colours by an alpha that they were multiplied by."""
    (extra, *_) = getattr(image, "tag_v2", {}).get(_EXTRA_SAMPLES_TAG, (None,))
    if extra == _NO_ALPHA:
        return np.ascontiguousarray(rgba[:, :, :3])
    if extra == _PREMULTIPLIED:
        alpha = np.maximum(rgba[:, :, 3:].astype(np.uint32), 1)
        straight = (rgba[:, :, :3].astype(np.uint32) * int(_FULL) + alpha // 2) // alpha
        rgba[:, :, :3] = np.minimum(straight, _FULL)
    return rgba
