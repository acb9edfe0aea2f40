"""The check of an image file that belongs to its format."""

from collections.abc import Callable
from typing import BinaryIO

from PIL import Image

from drc_deploy.images.checks.checksums import check_deflate_of_tiff, check_png
from drc_deploy.images.checks.jpeg_2000_tiles import check_jpeg_2000
from drc_deploy.images.checks.jpeg_data import check_jpeg, check_jpegs_of_tiff
from drc_deploy.images.checks.tiff_strips import check_strips


def check_content(image: Image.Image, stream: BinaryIO) -> None:
    """Check that a file holds what its head promises, as far as its decoder would not say.

    Args:
        image: the file in Pillow, opened and not loaded yet.
        stream: the file.

    Raises:
        ValueError: it is damaged, with the reason after "NAME is damaged:"; of a JPEG ``JpegDamageError``.
    """
    check = _CHECKS.get(str(image.format))
    if check is not None:
        check(image, stream)


def _check_jpeg(_: Image.Image, stream: BinaryIO) -> None:
    stream.seek(0)
    check_jpeg(stream.read())


def _check_jpeg_2000(_: Image.Image, stream: BinaryIO) -> None:
    check_jpeg_2000(stream)


def _check_png(_: Image.Image, stream: BinaryIO) -> None:
    check_png(stream)


def _check_tiff(image: Image.Image, stream: BinaryIO) -> None:
    check_strips(image, stream)
    check_jpegs_of_tiff(image, stream)
    check_deflate_of_tiff(image, stream)


_CHECKS: dict[str, Callable[[Image.Image, BinaryIO], None]] = {
    "JPEG": _check_jpeg,
    "JPEG2000": _check_jpeg_2000,
    "MPO": _check_jpeg,
    "PNG": _check_png,
    "TIFF": _check_tiff,
}
"""Name of a format in Pillow -> its check."""
