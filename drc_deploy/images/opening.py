"""Image files opened by Pillow, with what its readers of some formats leave out; HEIC and JPEG XL need a package."""

import importlib
from typing import Any, BinaryIO

from PIL import Image

from drc_deploy.errors import ImageError
from drc_deploy.images.boxes import read_avif, read_jpeg_2000
from drc_deploy.images.jxl_header import JpegXl, read_jpeg_xl
from drc_deploy.images.tags.exif import PREFIX, upright_exif
from drc_deploy.images.unreadable import kind_of

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000")
_NEED_A_PACKAGE = {"HEIC": ("HEIF", "pillow-heif"), "JPEG XL": ("JXL", "pillow-jxl-plugin")}
"""Kind of file -> its name in Pillow, and the package that reads it."""
_PROPERTIES = ("transparency", "icc_profile", "dpi", "xmp")
BITS, CODING = "bits of a sample", "coding of colours"
"""Keys of ``info`` that are added here for formats with boxes; the second holds numbers of ITU-T H.273."""


def open_image(stream: BinaryIO, name: str) -> Image.Image:
    """Open an image file, a JPEG XL decoded and others not yet; ``name`` is what messages call it.

    Raises:
        ImageError: the package that reads its format is missing, or it has samples that cannot be read.
        Exception: whatever Pillow raises.
    """
    formats: tuple[str, ...] = _FORMATS
    kind = kind_of(stream)
    if kind in _NEED_A_PACKAGE:
        format_name, package = _NEED_A_PACKAGE[kind]
        _register(kind, package, name)
        formats = (format_name,)
    if kind == "JPEG XL":
        _check_before_decoding(read_jpeg_xl(_content(stream)), name)
    stream.seek(0)
    image = Image.open(stream, formats=formats)
    try:
        image.info.update(_more_info(image, stream))
    except BaseException:
        image.close()
        raise
    return image


def forget_texts(image: Image.Image) -> None:
    """Remove texts of a loaded PNG from ``info``, where Pillow lets them stand for properties of the same name."""
    for key in _PROPERTIES:
        if isinstance(image.info.get(key), str):
            del image.info[key]
    if image.format == "PNG" and not image.info.get("exif", PREFIX).startswith(PREFIX):  # not of its own chunk
        del image.info["exif"]


def _register(kind: str, package: str, name: str) -> None:
    """Make Pillow read one more kind of file."""
    try:
        if kind == "HEIC":
            importlib.import_module("pillow_heif").register_heif_opener(thumbnails=False)
        else:
            importlib.import_module("pillow_jxl")  # which registers itself
    except ImportError as error:
        raise ImageError(
            f"{name} is a {kind} file, and {package}, which reads them, is not installed.",
            "Install it: pip install 'drc-deploy[formats]'",
        ) from error


def _check_before_decoding(head: JpegXl, name: str) -> None:
    """Do what Pillow does for other formats between opening and decoding."""
    pixels, most = head.width * head.height, Image.MAX_IMAGE_PIXELS
    if most is not None and pixels > 2 * most:
        raise Image.DecompressionBombError(f"Image size ({pixels} pixels) exceeds limit of {2 * most} pixels")
    if head.floating:
        raise ImageError(f"{name} holds floating-point samples.", "Convert it to 8 or 16 bits first.")


def _content(stream: BinaryIO) -> bytes:
    """Return the whole file, and leave the stream where it is."""
    position = stream.tell()
    stream.seek(0)
    content = stream.read()
    stream.seek(position)
    return content


def _more_info(image: Any, stream: BinaryIO) -> dict[str | tuple[int, int], Any]:
    if image.format == "AVIF":
        avif = read_avif(_content(stream))
        return {BITS: avif.bits, CODING: avif.coding}
    if image.format == "JPEG2000":
        head = read_jpeg_2000(_content(stream))
        return {BITS: head.bits, **_present(icc_profile=head.icc_profile, xmp=head.xmp, exif=head.exif)}
    if image.format == "JXL":
        return _info_of_jpeg_xl(image, read_jpeg_xl(_content(stream)))
    if image.format == "HEIF":
        nclx = image.info.get("nclx_profile") or {}
        coding = (nclx.get("color_primaries", 2), nclx.get("transfer_characteristics", 2))
        return {BITS: image.info.get("bit_depth", 8), CODING: coding}
    return {}


def _info_of_jpeg_xl(image: Any, head: JpegXl) -> dict[str | tuple[int, int], Any]:
    """Return the bits and the metadata; only of a JPEG in a JPEG XL the pixels are as its EXIF says."""
    exif = image.info.get("exif")
    if exif and not image.jpeg:
        exif = upright_exif(exif.removeprefix(PREFIX), *image.size)
    return {BITS: head.bits, "exif": exif, **_present(xmp=head.xmp)}


def _present(**blocks: bytes | None) -> dict[str | tuple[int, int], Any]:
    return {key: block for key, block in blocks.items() if block}
