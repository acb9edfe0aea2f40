"""Images to files: whole ones or none."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.files import atomic_path
from drc_deploy.images.animation.palette import with_palette
from drc_deploy.images.formats import (
    AS_IT_IS,
    GIF,
    JPEG,
    PNG,
    TIFF,
    Format,
    Saving,
    check_output,
    file_layout,
    format_of,
    profile_in,
)
from drc_deploy.images.metadata import Metadata
from drc_deploy.images.png_stream import Layout, PngStream
from drc_deploy.images.strips import stored_strips
from drc_deploy.images.tags.exif import PREFIX, descriptive_fields
from drc_deploy.images.tags.iptc import jpeg_segment

_XMP_TAG, _IPTC_TAG = 700, 33723
_BYTE, _UNDEFINED = 1, 7
"""Tags and types of a TIFF."""


def write_image(
    path: Path,
    strips: Iterable[NDArray[Any]],
    layout: Layout,
    metadata: Metadata | None = None,
    *,
    saving: Saving = AS_IT_IS,
    replace: bool = True,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write an image that comes in strips of rows; a PNG is never in memory whole.

    Args:
        path: the suffix decides the format.
        strips: (rows, W) or (rows, W, channels), from top to bottom.
        layout: what the strips add up to.
        metadata: what to say about the image, as far as the format holds it: PNG holds all, JPEG blocks of up to
            64 KiB, TIFF the descriptive fields of an EXIF, WebP neither resolution nor IPTC, BMP nothing else. See
            ``formats.output_notes``.
        saving: how it is written.
        replace: whether the image may take the place of a file that is there by the time it is written.
        check: called when everything is written, before the image appears; what it raises prevents that.

    Raises:
        OutputError: the format cannot hold the image, a file is in the way, the folder is not writable, or the disk is
            full.
    """
    metadata = metadata or Metadata()
    check_output(path, layout, metadata, saving)
    kind = format_of(path)
    stored = file_layout(kind, layout, metadata, saving)
    strips = stored_strips(strips, layout, stored, saving.background)
    with atomic_path(path, replace=replace) as temporary:
        with temporary.open("wb") as stream:
            if kind is PNG:
                _write_png(stream, strips, stored, metadata)
            elif kind is TIFF:
                _write_tiff(stream, joined(strips, stored), metadata, profile_in(metadata, stored, kind))
            else:
                options = pillow_options(kind, metadata, saving, profile_in(metadata, stored, kind))
                _write_whole(stream, joined(strips, stored), kind, options)
        check()


def write_png(
    stream: BinaryIO,
    strips: Iterable[NDArray[Any]],
    layout: Layout,
    metadata: Metadata,
    saving: Saving = AS_IT_IS,
) -> None:
    """Write a PNG to a stream; see ``write_image``.

    Raises:
        OSError: the stream does not take it.
    """
    stored = file_layout(PNG, layout, metadata, saving)
    _write_png(stream, stored_strips(strips, layout, stored, saving.background), stored, metadata)


def _write_png(stream: BinaryIO, strips: Iterable[NDArray[Any]], layout: Layout, metadata: Metadata) -> None:
    png = PngStream(stream, layout, metadata)
    for strip in strips:
        png.write(strip)
        del strip  # before the next one is waited for
    png.finish()


def joined(strips: Iterable[NDArray[Any]], layout: Layout) -> NDArray[Any]:
    """Return the whole image, without making a second copy.

    Raises:
        ValueError: more or fewer rows come than the layout has.
    """
    pixels: NDArray[Any] | None = None
    row = 0
    for strip in strips:
        if pixels is None:
            pixels = np.empty((layout.height, *strip.shape[1:]), strip.dtype)
        pixels[row : row + len(strip)] = strip
        row += len(strip)
    if pixels is None or row != layout.height:
        raise ValueError(f"{row} rows came of {layout.height}")
    return pixels


def _write_tiff(stream: BinaryIO, pixels: NDArray[Any], metadata: Metadata, profile: bytes | None) -> None:
    """Write a TIFF of 8 or 16 bits: Pillow cannot write the latter in colour, and OpenCV no profile."""
    import tifffile

    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if channels == 2 and pixels.dtype == np.uint16:  # which few programs read
        pixels, channels = pixels[:, :, [0, 0, 0, 1]], 4
    tifffile.imwrite(
        stream,
        pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels,
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        # For photographs smaller than LZW, and faster.
        compression="zlib",
        compressionargs={"level": 1},
        predictor=True,
        iccprofile=profile,
        resolution=metadata.dpi,
        resolutionunit="inch" if metadata.dpi else None,
        extratags=[
            *((tag, "s", 0, text, True) for tag, text in descriptive_fields(metadata.exif or b"").items()),
            *((tag, kind, len(data), data, True) for tag, kind, data in _blocks(metadata) if data),
        ],
        metadata=None,
        software=False,
    )


def _blocks(metadata: Metadata) -> tuple[tuple[int, int, bytes | None], ...]:
    """Return tag, type and content of the metadata that a TIFF holds as a block of bytes."""
    return (_XMP_TAG, _BYTE, metadata.xmp), (_IPTC_TAG, _UNDEFINED, metadata.iptc)


def pillow_options(kind: Format, metadata: Metadata, saving: Saving, profile: bytes | None) -> dict[str, Any]:
    """Return what Pillow is to write the image with."""
    options = dict(kind.options)
    if saving.quality is not None:
        options["quality"] = saving.quality
    if profile:
        options["icc_profile"] = profile
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    if metadata.exif and len(metadata.exif) <= kind.max_exif_bytes:
        options["exif"] = PREFIX + metadata.exif
    if metadata.xmp and len(metadata.xmp) <= kind.max_xmp_bytes:
        options["xmp"] = metadata.xmp
    if metadata.iptc and kind is JPEG and len(metadata.iptc) <= kind.max_iptc_bytes:
        options["extra"] = jpeg_segment(metadata.iptc)
    if metadata.comment and kind is GIF:
        options["comment"] = metadata.comment
    return options


def _write_whole(stream: BinaryIO, pixels: NDArray[Any], kind: Format, options: dict[str, Any]) -> None:
    if kind is GIF:
        image, transparent = with_palette(pixels)
        options |= {} if transparent is None else {"transparency": transparent}
    else:
        image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels)
    # By way of memory: where the disk is full, Pillow's own writing to files does not say so.
    encoded = io.BytesIO()
    image.save(encoded, format=kind.name, **options)
    stream.write(encoded.getbuffer())
