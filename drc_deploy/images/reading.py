"""Images from files as arrays, in the file's own depth, upright, with their metadata.

Pillow identifies and decodes; OpenCV reads the pixels of 16-bit files, where Pillow keeps only the upper 8 bits.
"""

import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from drc_deploy.errors import ImageError
from drc_deploy.images.checks.dispatch import check_content
from drc_deploy.images.checks.jpeg_data import JpegDamageError
from drc_deploy.images.deep_samples import has_16_bits, read_16_bits
from drc_deploy.images.jxl_header import read_jpeg_xl
from drc_deploy.images.metadata import Metadata, metadata_of
from drc_deploy.images.modes import plain, upright
from drc_deploy.images.opening import forget_texts, open_image
from drc_deploy.images.reading_notes import notes_on
from drc_deploy.images.tags.exif import ORIENTATION_TAG, orientation_of
from drc_deploy.images.unreadable import kind_of, undecodable, unidentified

_PIPE_BLOCK_BYTES = 1 << 24
_JPEG_END = b"\xff\xd9"
_DECODING_BYTES, _DEEP_DECODING_BYTES = 14, 20
"""Per pixel: Pillow's own image and one converted (4 bytes each), its bytes in pieces and joined (3 each); of 16 bits,
Pillow's image, and OpenCV's (8) in two orders of channels."""
_OTHER_DECODING_BYTES = {"AVIF": (20, 20), "HEIF": (18, 46)}
"""Of formats that also hold planes of their decoder: of 8 bits and of more, which are decoded twice."""
_JPEG_XL_BYTES = 30
"""Per pixel, of noise in four channels."""
_JPEG_2000_BYTES = 9
"""Of each channel: a number of 32 bits, and twice what becomes of it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image."""

    pixels: NDArray[Any]
    """(H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; uint8 or uint16, alpha straight."""
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()
    """What a user should know about the reading, each a sentence."""


def limit_pixels(count: int) -> None:
    """Refuse images of more than ``count`` pixels from now on, in this process.

    A small file can promise any number of pixels; Pillow refuses about 179 million unless a limit is set.
    """
    Image.MAX_IMAGE_PIXELS = (count + 1) // 2  # Pillow warns above this number and refuses above twice as many


def decoding_bytes(path: Path) -> int:
    """Predict how much memory reading an image file takes at most; 0 when it does not say its size."""
    if not os.path.isfile(path):
        return 0  # looking into a pipe would take away what is to be read
    try:
        with path.open("rb") as stream:
            return _decoding_bytes(stream)
    except OSError:  # ``read_image`` reports why
        return 0


def _decoding_bytes(stream: BinaryIO) -> int:
    try:
        if kind_of(stream) == "JPEG XL":  # opening it would decode it
            stream.seek(0)
            content = stream.read()
            head = read_jpeg_xl(content)
            return head.width * head.height * _JPEG_XL_BYTES + len(content)
        with silence(), open_image(stream, "the image") as image:
            deep = has_16_bits(image, stream, "the image")
            needed = image.width * image.height * _bytes_a_pixel(image, deep=deep)
            whole_file = deep or image.format in (*_OTHER_DECODING_BYTES, "JPEG2000", "JPEG", "MPO")  # it is held too
            return int(needed + stream.seek(0, io.SEEK_END) if whole_file else needed)
    except Exception:  # ``read_image`` reports the damage
        return 0


def _bytes_a_pixel(image: Image.Image, *, deep: bool) -> int:
    if image.format == "JPEG2000":
        return _JPEG_2000_BYTES * len(image.getbands())
    return _OTHER_DECODING_BYTES.get(str(image.format), (_DECODING_BYTES, _DEEP_DECODING_BYTES))[deep]


def read_image(path: Path, *, tolerant: bool = False, check_room: Callable[[int], object] | None = None) -> Picture:
    """Read an image file by its content, whatever its name.

    Args:
        path: the file.
        tolerant: decode what is there of a damaged JPEG, with a note, instead of refusing it.
        check_room: is called before a pipe is decoded, since ``decoding_bytes`` knows nothing of it, with the bytes
            that its content and its decoding take; its errors are passed on.

    Raises:
        ImageError: the file is missing, empty, damaged, too large, or no image of a known kind.
    """
    with opened(path) as stream:
        if stream.seekable():
            return _read(stream, str(path), tolerant=tolerant)
        return decode_image(read_pipe(stream, check_room), str(path), tolerant=tolerant, check_room=check_room)


def read_pipe(stream: BinaryIO, check_room: Callable[[int], object] | None) -> bytes:
    """Return all that comes from a pipe, which may have no end: ``check_room`` is called as it grows."""
    content = io.BytesIO()
    while block := stream.read(_PIPE_BLOCK_BYTES):
        content.write(block)
        if check_room is not None:
            check_room(content.tell())
    return content.getvalue()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open an image file, and explain what the disk says of it.

    Raises:
        ImageError: it is missing or cannot be read.
    """
    try:
        # Opened as a stream: given a path, Pillow maps the file and reads turned grey TIFFs wrongly.
        with path.open("rb") as stream:
            yield stream
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist.", "Check the path.") from error
    except IsADirectoryError as error:
        raise ImageError(f"{path} is a folder.", "Give an image file.") from error
    except PermissionError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    except OSError as error:
        reason = error.strerror or error
        raise ImageError(f"{path} cannot be read: {reason}.", "Check the path and the disk.") from error


def decode_image(
    content: bytes, name: str, *, tolerant: bool = False, check_room: Callable[[int], object] | None = None
) -> Picture:
    """Read an image from the bytes of its file; ``name`` is what messages call it, the rest as for ``read_image``.

    Raises:
        ImageError: as ``read_image``.
    """
    stream = io.BytesIO(content)
    if check_room is not None:
        check_room(len(content) + _decoding_bytes(stream))
        stream.seek(0)
    return _read(stream, name, tolerant=tolerant)


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


@contextmanager
def silence() -> Iterator[None]:
    """Keep Pillow's warnings of large images and odd metadata: what matters ends as an error or a note here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(stream: BinaryIO, name: str, *, tolerant: bool) -> Picture:
    """Decode a file that can be read from any position; see ``read_image``."""
    if not stream.read(1):
        raise ImageError(f"{name} is empty.", "Copy the file again.")
    with explained(stream, name):
        try:
            return _decode(stream, name)
        except (OSError, JpegDamageError) as error:
            if not (tolerant and kind_of(stream) == "JPEG"):
                raise
            return _decode_damaged(stream, name, error)


@contextmanager
def explained(stream: BinaryIO, name: str) -> Iterator[None]:
    """Explain what Pillow raises on a file, which messages call ``name``; its warnings are not shown.

    Raises:
        ImageError: the file is damaged, too large, or no image of a known kind.
        OSError: of the disk.
    """
    try:
        with silence():
            yield
    except UnidentifiedImageError as error:
        raise unidentified(stream, name) from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name} is too large: {str(error).partition(',')[0]}.",
            "Cut the image into parts; where you trust the file, `upscale` has --max-pixels.",
        ) from error
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow takes what a damaged file says for numbers, and fails in every way
        if isinstance(error, OSError) and error.errno:
            raise  # of the disk, not of the image
        raise undecodable(error, stream, name) from error


def _decode_damaged(stream: BinaryIO, name: str, damage: OSError | JpegDamageError) -> Picture:
    """Decode a damaged JPEG: after an end mark libjpeg fills up with grey what is missing."""
    stream.seek(0)
    picture = _decode(io.BytesIO(stream.read() + _JPEG_END), name, checked=False)
    if isinstance(damage, OSError) or damage.ends_early:
        note = f"{name} ends early: what is missing of it is grey or smeared."
    else:
        note = f"{name} is damaged: {damage}. Parts of it may be grey, smeared, moved or of wrong colours."
    return replace(picture, notes=(*picture.notes, note))


def _decode(stream: BinaryIO, name: str, *, checked: bool = True) -> Picture:
    with open_image(stream, name) as image:
        return _picture(image, stream, name, checked=checked)


def _picture(image: Image.Image, stream: BinaryIO, name: str, *, checked: bool) -> Picture:
    if 0 in image.size:
        raise ValueError(f"it has {image.width}x{image.height} pixels")
    deep = has_16_bits(image, stream, name)
    if checked:
        check_content(image, stream)
    stored_orientation = getattr(image, "tag_v2", {}).get(ORIENTATION_TAG, 1)
    image.load()  # decodes all of it, so that a truncated file is found whichever library reads the pixels
    forget_texts(image)
    # A TIFF is upright already: both libraries turn it, and Pillow then forgets the tag.
    orientation = orientation_of(image)
    metadata = metadata_of(image, stream, stored_orientation if image.format == "TIFF" else orientation)
    notes = tuple(notes_on(image, metadata, name))
    pixels = read_16_bits(image, stream) if deep else np.asarray(plain(image))
    return Picture(upright(pixels, orientation), metadata, notes)
