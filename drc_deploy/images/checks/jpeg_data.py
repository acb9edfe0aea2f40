"""Whether the data of a JPEG are whole: its decoder goes on after damage, and warns where nobody hears it.

Pillow and OpenCV drop the warnings of libjpeg. simplejpeg makes errors of them.
"""

import re
from typing import BinaryIO

import simplejpeg
from PIL import Image

from drc_deploy.images.checks.tiff_strips import segments

_FILE_ENDS = "Premature end of JPEG file"
_DAMAGE = re.compile(
    rf"({_FILE_ENDS}|premature end of data segment|\d+ extraneous bytes before marker.*"
    r"|bad (?:Huffman|arithmetic) code|found marker .* instead of RST\d)$"
)
"""Warnings of libjpeg (jerror.h) that mean lost pixels. Others are about metadata, or scans that are only unusual."""
_LARGEST_REDUCTION = 8
_COMPRESSION, _PLANAR, _TABLES = 259, 284, 347
_JPEG, _SEPARATE_PLANES = 7, 2
"""Technical note 2 of TIFF 6.0."""
_MARKER_BYTES = 2


class JpegDamageError(ValueError):
    """The data of a JPEG are not whole; the message is that of libjpeg, in its words."""

    @property
    def ends_early(self) -> bool:
        """Whether the end of the file is missing, and what comes before it may be whole."""
        return str(self) == _FILE_ENDS


def check_jpeg(content: bytes) -> None:
    """Decode all data of a JPEG, at an eighth of its size, and check that the decoder has nothing to warn of.

    Args:
        content: a whole file; only its first JPEG is looked at. Files that libjpeg cannot decode pass: reading them
            fails anyway.

    Raises:
        JpegDamageError: data are missing, left over or make no sense.
    """
    try:
        simplejpeg.decode_jpeg(
            content, colorspace="GRAY", min_factor=_LARGEST_REDUCTION, min_height=1, min_width=1, strict=True
        )
    except ValueError as error:
        if damage := _DAMAGE.search(str(error)):
            raise JpegDamageError(damage[0]) from error


def check_jpegs_of_tiff(image: Image.Image, stream: BinaryIO) -> None:
    """Check the JPEGs in the first page of a TIFF, where it holds any.

    Args:
        image: the file in Pillow, not loaded yet.
        stream: the file.

    Raises:
        ValueError: one is damaged, or smaller than its strip or tile.
    """
    tags = image.tag_v2  # type: ignore[attr-defined]
    if tags.get(_COMPRESSION) != _JPEG:
        return
    tables = tags.get(_TABLES, b"")[:-_MARKER_BYTES]  # which all share
    interleaved = tags.get(_PLANAR) != _SEPARATE_PLANES  # else planes of colour may be smaller
    for segment in segments(image):
        stream.seek(segment.offset)
        content = stream.read(segment.size or -1)
        content = tables + content[_MARKER_BYTES:] if tables else content
        check_jpeg(content)
        height, width, _, _ = simplejpeg.decode_jpeg_header(content, strict=False)
        if interleaved and (height < segment.height or width < segment.width):
            found, needed = f"{width}x{height}", f"{segment.width}x{segment.height}"
            raise ValueError(f"one of its strips or tiles has {found} pixels instead of {needed}")
