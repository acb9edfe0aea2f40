"""Image files opened by Pillow, with what its readers of some formats leave out; two formats need a package more."""

import importlib
from typing import Any, BinaryIO

from PIL import Image

from drc_deploy.errors import ImageError
from drc_deploy.images.boxes import read_avif, read_jpeg_2000
from drc_deploy.images.unreadable import kind_of

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000")
_HEIC = "HEIC"
BITS, CODING = "bits of a sample", "coding of colours"
"""Keys of ``info`` that are added here: of AVIF, JPEG 2000 and HEIC; the second holds numbers of ITU-T H.273."""


def open_image(stream: BinaryIO, name: str) -> Image.Image:
    """Open an image file without decoding it; ``name`` is what messages call it.

    Raises:
        ImageError: the package that reads its format is missing.
        Exception: whatever Pillow raises.
    """
    formats: tuple[str, ...] = _FORMATS
    if kind_of(stream) == _HEIC:
        _register_heif(name)
        formats = ("HEIF",)
    stream.seek(0)
    image = Image.open(stream, formats=formats)
    try:
        image.info.update(_more_info(image, stream))
    except BaseException:
        image.close()
        raise
    return image


def _register_heif(name: str) -> None:
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError as error:
        raise ImageError(
            f"{name} is a HEIC file, and pillow-heif, which reads them, is not installed.",
            "Install it: pip install 'drc-deploy[formats]'",
        ) from error
    heif.register_heif_opener(thumbnails=False)


def _more_info(image: Image.Image, stream: BinaryIO) -> dict[str | tuple[int, int], Any]:
    position = stream.tell()
    try:
        if image.format == "AVIF":
            stream.seek(0)
            avif = read_avif(stream.read())
            return {BITS: avif.bits, CODING: avif.coding}
        if image.format == "JPEG2000":
            stream.seek(0)
            head = read_jpeg_2000(stream.read())
            blocks = {"icc_profile": head.icc_profile, "xmp": head.xmp, "exif": head.exif}
            return {BITS: head.bits, **{key: block for key, block in blocks.items() if block}}
    finally:
        stream.seek(position)
    if image.format == "HEIF":
        nclx = image.info.get("nclx_profile") or {}
        coding = (nclx.get("color_primaries", 2), nclx.get("transfer_characteristics", 2))
        return {BITS: image.info.get("bit_depth", 8), CODING: coding}
    return {}
