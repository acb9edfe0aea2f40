"""What kind of TIFF a file is, for those that Pillow or OpenCV cannot decode and only call unreadable."""

import logging
from typing import Any, BinaryIO

_READABLE = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946)
"""Compressions that both decode: none, fax, LZW, JPEG, deflate, PackBits."""
_READABLE_8_BITS = (34925, 50000)
"""LZMA and Zstandard, which OpenCV's libtiff lacks."""
_SAMPLE_KINDS = {2: "signed", 3: "floating-point", 5: "complex signed", 6: "complex"}
_PALETTE, _YCBCR = 3, 6
_NOT_COMPRESSED = 1
_COLOURS = (0, 1, 2, _PALETTE, 5, 6, 8)
"""Photometric interpretations that are read: grey, RGB, palette, CMYK, YCbCr, CIELAB."""


def first_page(stream: BinaryIO) -> Any:
    """Return the first page of a TIFF as tifffile reads its tags; None where it cannot."""
    import tifffile

    logger = logging.getLogger("tifffile")
    before, logger.disabled = logger.disabled, True  # what it says of odd tags is nothing that a user can use
    try:
        stream.seek(0)
        return tifffile.TiffFile(stream).pages.first
    except Exception:  # it meets what is no TIFF, and fails in every way
        return None
    finally:
        logger.disabled = before


def why_unreadable(stream: BinaryIO) -> str | None:
    """Return the end of a sentence that begins with the name of a TIFF: what about it is not read here.

    Returns:
        None where it is of a kind that is read, and so may be damaged, or where its tags cannot be read.
    """
    page = first_page(stream)
    if page is None:
        return None
    if page.parent.is_bigtiff and page.parent.byteorder == ">":
        return "is a BigTIFF with big-endian numbers"
    bits, compression, colours = page.bitspersample, page.compression, page.photometric
    if compression not in _READABLE and not (compression in _READABLE_8_BITS and bits in range(9)):
        return f"is compressed as {_name_of(compression)}"
    if kind := _SAMPLE_KINDS.get(page.sampleformat):
        return f"holds {kind} samples of {_listed(bits)} bits"
    if colours not in _COLOURS:
        return f"holds colours of the kind {_name_of(colours)}"
    if bits not in (1, 2, 4, 8, 16):
        return f"holds samples of {_listed(bits)} bits"
    if colours == _YCBCR and compression == _NOT_COMPRESSED and page.subsampling != (1, 1):
        return "holds uncompressed YCbCr samples that pixels share"
    if colours == _PALETTE and bits > 8:
        return f"has a palette of {bits} bits"
    if bits > 8 and colours > _PALETTE:
        return f"holds {_name_of(colours)} samples of {bits} bits"
    return None


def _listed(bits: int | tuple[int, ...]) -> str:
    """Return the bits of all samples, or of each where they differ."""
    return ", ".join(map(str, bits)) if isinstance(bits, tuple) else str(bits)


def _name_of(value: Any) -> str:
    """Return the name that tifffile has for a value of a tag, or its number."""
    return getattr(value, "name", f"number {value}").replace("_", " ")
