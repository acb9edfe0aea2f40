"""Metadata of an image file, and the part of it that an upscaled image keeps."""

import dataclasses
from dataclasses import dataclass

from PIL import Image

from drc_deploy.images.exif import PREFIX, exif_of_tiff, upright_exif
from drc_deploy.images.modes import CONVERTED_MODES, GREY_MODES

_TURNED = (5, 6, 7, 8)
"""Values of the EXIF orientation that swap width and height."""
_MAX_DPI = 65535
"""What a JPEG holds; no image has more."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What goes from a file to the upscaled one as far as its format holds it."""

    icc_profile: bytes | None = None
    """Colour profile that belongs to the pixels; None means sRGB, as everywhere."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch across and down, as the original says: upscaling makes a larger print, not a finer one."""
    exif: bytes | None = None
    """EXIF as a TIFF structure, of at most 4 GiB; the image is upright whatever it says until ``for_size``."""

    def for_size(self, width: int, height: int) -> "Metadata":
        """Return the metadata of an upright image of ``width`` x ``height`` pixels; a damaged EXIF is left out."""
        return dataclasses.replace(self, exif=self.exif and upright_exif(self.exif, width, height))


def metadata_of(image: Image.Image, orientation: int) -> Metadata:
    """Read the metadata of a loaded image file; ``orientation`` is what its EXIF said before it was turned."""
    exif = exif_of_tiff(image) if image.format == "TIFF" else image.info.get("exif", b"").removeprefix(PREFIX)
    return Metadata(_profile(image), _resolution(image, turned=orientation in _TURNED), exif or None)


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
