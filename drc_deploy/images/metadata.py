"""Metadata of an image file, and the part of it that an upscaled image keeps."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from drc_deploy.images.modes import CONVERTED_MODES, GREY_MODES
from drc_deploy.images.opening import CODING
from drc_deploy.images.tags.colour import coded_colour, read_colour
from drc_deploy.images.tags.exif import PREFIX, exif_of_tiff, upright_exif
from drc_deploy.images.tags.iptc import iptc_in, iptc_of_tiff
from drc_deploy.images.tags.png_chunks import COMMENT_KEYWORD, XMP_KEYWORD, Chunk, raw_profile, read_texts, text_of
from drc_deploy.images.tags.xmp import upright_xmp, without_regions

_TURNED = (5, 6, 7, 8)
"""Values of the EXIF orientation that swap width and height."""
_MAX_DPI = 65535
"""What a JPEG holds; no image has more."""
_XMP_TAG = 700
_IPTC_RESOURCE = 0x0404
_KEPT_RAW = ("exif", "iptc", "8bim", "xmp")
"""Raw profiles that get a place of their own in the result, where they become true."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What goes from a file to the upscaled one as far as its format holds it."""

    icc_profile: bytes | None = None
    """Colour profile that belongs to the pixels; without it and ``colour`` they are sRGB, as everywhere. Grey pixels
    may have one of RGB: they become RGB in the file."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch across and down, as the original says: upscaling makes a larger print, not a finer one."""
    exif: bytes | None = None
    """EXIF as a TIFF structure, of at most 4 GiB; the image is upright whatever it says until ``for_size``."""
    xmp: bytes | None = None
    """XMP packet; what it says of size and orientation is that of the original until ``for_size``."""
    iptc: bytes | None = None
    """IPTC records."""
    colour: tuple[Chunk, ...] = ()
    """Chunks of a PNG that describe its colours."""
    texts: tuple[Chunk, ...] = ()
    """Texts of a PNG."""

    def for_size(self, width: int, height: int) -> "Metadata":
        """Return the metadata of an upright image of ``width`` x ``height`` pixels; what is damaged is left out."""
        return dataclasses.replace(
            self,
            exif=self.exif and upright_exif(self.exif, width, height),
            xmp=self.xmp and upright_xmp(self.xmp, width, height),
        )

    @property
    def comment(self) -> bytes | None:
        """The text that a GIF can hold, in no known encoding."""
        return next((text_of(chunk) for chunk in self.texts if chunk.keyword == COMMENT_KEYWORD), None)

    @property
    def has_rgb_profile(self) -> bool:
        """Whether the colour profile is one of RGB."""
        return self.icc_profile is not None and self.icc_profile[16:20] == b"RGB "


def metadata_of(image: Image.Image, stream: BinaryIO, orientation: int) -> Metadata:
    """Read the metadata of a loaded image file.

    Args:
        image: the file in Pillow.
        stream: the file.
        orientation: what its EXIF said before it was turned.
    """
    found = _as_stored(image, stream, orientation)
    if found.xmp and orientation in range(2, 9):
        return dataclasses.replace(found, xmp=without_regions(found.xmp) or found.xmp)
    return found


def _as_stored(image: Image.Image, stream: BinaryIO, orientation: int) -> Metadata:
    common = Metadata(_profile(image), _resolution(image, turned=orientation in _TURNED))
    if image.format == "TIFF":
        return _of_tiff(common, image, stream)
    if image.format == "PNG":
        return _of_png(common, image, stream)
    if image.format == "GIF" and (comment := image.info.get("comment")):
        return dataclasses.replace(
            common, texts=(Chunk(b"tEXt", COMMENT_KEYWORD + b"\0" + comment.replace(b"\0", b"")),)
        )
    resources = image.info.get("photoshop")
    iptc = resources.get(_IPTC_RESOURCE) if isinstance(resources, dict) else None
    colour = coded_colour(*coding) if (coding := image.info.get(CODING)) else ()
    xmp = image.info.get("xmp") or None
    return dataclasses.replace(common, exif=_exif(image), xmp=xmp, iptc=iptc or None, colour=colour)


def _exif(image: Image.Image) -> bytes | None:
    return (image.info.get("exif") or b"").removeprefix(PREFIX) or None


def _of_tiff(common: Metadata, image: Image.Image, stream: BinaryIO) -> Metadata:
    tags = image.tag_v2  # type: ignore[attr-defined]
    xmp = tags.get(_XMP_TAG)
    xmp = xmp if isinstance(xmp, bytes) and xmp.strip(b"\0 ") else None
    return dataclasses.replace(common, exif=exif_of_tiff(image), xmp=xmp, iptc=iptc_of_tiff(tags, stream))


def _of_png(common: Metadata, image: Image.Image, stream: BinaryIO) -> Metadata:
    texts = read_texts(stream)
    raw = dict(filter(None, map(raw_profile, texts)))
    xmp = next((text_of(chunk) for chunk in texts if chunk.keyword == XMP_KEYWORD), None)
    return dataclasses.replace(
        common,
        exif=_exif(image) or raw.get("exif", b"").removeprefix(PREFIX) or None,
        xmp=xmp or raw.get("xmp") or None,
        iptc=iptc_in(raw.get("iptc", b"")) or iptc_in(raw.get("8bim", b"")),
        colour=read_colour(stream),
        texts=_other_texts(texts),
    )


def _other_texts(texts: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """Return the texts that are no metadata of a kind that has its own place."""
    others = (chunk for chunk in texts if chunk.keyword != XMP_KEYWORD)
    return tuple(chunk for chunk in others if (raw_profile(chunk) or ("", b""))[0] not in _KEPT_RAW)


def _profile(image: Image.Image) -> bytes | None:
    """Return the colour profile if it describes the pixels: a viewer would show others in false colours, or refuse."""
    profile: bytes = image.info.get("icc_profile") or b""
    spaces = (b"GRAY", b"RGB ") if image.mode in GREY_MODES else (b"RGB ",)
    size, space, signature = profile[:4], profile[16:20], profile[36:40]
    usable = signature == b"acsp" and space in spaces and int.from_bytes(size, "big") <= len(profile)
    return profile if usable and image.mode not in CONVERTED_MODES else None


def _resolution(image: Image.Image, *, turned: bool) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    if dpi is None:
        return None
    across, down = (float(value) for value in dpi)
    if not (0 < across <= _MAX_DPI and 0 < down <= _MAX_DPI):  # nor NaN
        return None
    return (down, across) if turned else (across, down)
