"""Images from files: PNG, JPEG, WebP, TIFF and BMP as arrays, in the file's own depth, upright, with colour profile.

Pillow identifies and decodes; OpenCV gives the pixels of 16-bit files, of which Pillow keeps only the upper 8 bits.
"""

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from drc_deploy.errors import ImageError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
_ORIENTATION_TAG = 0x0112
_BITS_PER_SAMPLE_TAG, _PHOTOMETRIC_TAG, _SAMPLE_FORMAT_TAG = 258, 262, 339
_UNSIGNED, _PHOTOMETRIC_CMYK = 1, 5
_PNG_GREY_ALPHA = 4
_PNG_HEADER = struct.Struct(">8x8xIIBB")
"""Signature and chunk head; then width, height, bits per sample, colour type."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image."""

    pixels: NDArray[Any]
    """(H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; uint8 or uint16, alpha straight."""
    icc_profile: bytes | None = None
    """Colour profile that belongs to the pixels; None means sRGB, as everywhere."""
    notes: tuple[str, ...] = ()
    """What a user should know about the reading, each a sentence."""


def list_images(folder: Path) -> list[Path]:
    """Give the image files in ``folder`` and below, by suffix, without hidden ones, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def read_image(path: Path) -> Picture:
    """Read an image file by its content, whatever its name.

    Raises:
        ImageError: the file is missing, empty, damaged, too large, or no image of a known kind.
    """
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty.", "Copy the file again.")
        with warnings.catch_warnings():
            # Pillow warns of large images and of odd metadata; what matters ends as an error or a note here.
            warnings.simplefilter("ignore")
            # Opened as a stream: given a path, Pillow maps the file and reads turned grey TIFFs wrongly.
            with path.open("rb") as stream, Image.open(stream, formats=_FORMATS) as image:
                return _decode(image, path)
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist.", "Check the path.") from error
    except IsADirectoryError as error:
        raise ImageError(f"{path} is a folder.", "Give an image file.") from error
    except PermissionError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path} is not an image that can be read here.", "PNG, JPEG, WebP, TIFF and BMP can."
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} is too large: {error}.", "Cut the image into parts.") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, cv2.error) as error:
        raise ImageError(f"{path} is damaged: {error}.", "Copy or export the file again.") from error


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image as 8-bit RGB for training and measuring; alpha is dropped, 16 bits are rounded to 8.

    Returns:
        (H, W, 3).

    Raises:
        ImageError: as ``read_image``.
    """
    pixels = read_image(path).pixels
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    colours = pixels[:, :, : 3 if pixels.shape[2] > 2 else 1]
    return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))


def _decode(image: Image.Image, path: Path) -> Picture:
    profile = image.info.get("icc_profile")
    notes: tuple[str, ...] = ()
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        notes = (f"{path} has {getattr(image, 'n_frames', 1)} frames: only the first is used.",)
    deep = _has_16_bits(image, path)
    image.load()  # decodes all of it, so that a truncated file is found whoever gives the pixels
    # A TIFF is upright already: both libraries turn it, and Pillow then forgets the tag.
    orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    if image.mode in ("CMYK", "LAB"):
        profile = None  # it does not describe the RGB that these become
    pixels = _read_16_bits(path) if deep else np.asarray(_plain(image))
    return Picture(_upright(pixels, orientation), profile or None, notes)


def _has_16_bits(image: Image.Image, path: Path) -> bool:
    """Tell whether the file has more than 8 bits a sample.

    Raises:
        ImageError: it has samples that would have to be rounded.
    """
    if image.format == "PNG":
        return _png_header(path)[0] == 16
    if image.format != "TIFF":
        return False
    tags: Any = getattr(image, "tag_v2", {})
    bits, kind = max(tags.get(_BITS_PER_SAMPLE_TAG, (1,))), max(tags.get(_SAMPLE_FORMAT_TAG, (_UNSIGNED,)))
    cmyk = tags.get(_PHOTOMETRIC_TAG) == _PHOTOMETRIC_CMYK
    if kind != _UNSIGNED or bits > 16 or (bits == 16 and cmyk):
        raise ImageError(
            f"{path} holds {'CMYK' if cmyk else 'floating-point, signed or 32-bit'} samples of {bits} bits.",
            "Convert it to 8- or 16-bit grey or RGB first.",
        )
    return bool(bits == 16)


def _png_header(path: Path) -> tuple[int, int]:
    """Give bits per sample and colour type of a PNG."""
    with path.open("rb") as stream:
        _, _, bits, colour_type = _PNG_HEADER.unpack(stream.read(_PNG_HEADER.size))
    return bits, colour_type


def _read_16_bits(path: Path) -> NDArray[Any]:
    decoded = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise ValueError("its 16-bit samples cannot be decoded")
    if decoded.ndim == 2:
        return decoded
    if decoded.shape[2] == 3:
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    if path.read_bytes()[:4] == b"\x89PNG" and _png_header(path)[1] == _PNG_GREY_ALPHA:
        return np.ascontiguousarray(decoded[:, :, [0, 3]])
    return cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA)


def _plain(image: Image.Image) -> Image.Image:
    """Convert palette, bilevel, CMYK and other modes to L, LA, RGB or RGBA."""
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        return image.convert("LA" if grey else "RGBA")
    if image.mode in ("CMYK", "LAB"):
        return _through_profile(image)
    return image.convert("L" if grey else "RGB")


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


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror as the EXIF orientation (1 to 8) says; other values mean upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
