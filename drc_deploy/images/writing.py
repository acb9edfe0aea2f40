"""Images to files: which format can hold what, and writing that leaves a whole file or none."""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import OutputError, UsageError
from drc_deploy.files import atomic_path
from drc_deploy.images.exif import PREFIX, descriptive_fields
from drc_deploy.images.metadata import Metadata
from drc_deploy.images.png_stream import Layout, PngStream

MAX_WHOLE_PIXELS = 10**9
"""Formats other than PNG are held in memory whole, up to this many pixels."""

_USE_PNG = "Write a .png instead."


@dataclass(frozen=True, slots=True)
class _Format:
    """What a file format can hold, and how Pillow is asked to write it."""

    name: str
    max_side: int
    memory: float
    """Bytes that the image and its encoder take at most, for each of the image: of noise, WebP with alpha."""
    deep: bool = False
    """Whether it holds 16 bits a sample."""
    alpha: bool = False
    profile: bool = True
    """Whether it holds a colour profile."""
    max_exif_bytes: int = 2**32 - 1
    options: dict[str, Any] = field(default_factory=dict)


_PNG = _Format("PNG", max_side=2**31 - 1, memory=0, deep=True, alpha=True)
_JPEG = _Format(
    "JPEG", max_side=65500, memory=3.25, max_exif_bytes=65527, options={"quality": 95, "subsampling": "4:4:4"}
)
_TIFF = _Format("TIFF", max_side=2**31 - 1, memory=1.25, deep=True, alpha=True)
_FORMATS = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jpe": _JPEG,
    ".jfif": _JPEG,
    ".webp": _Format("WebP", max_side=16383, memory=12, alpha=True, options={"quality": 95}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": _Format("BMP", max_side=2**31 - 1, memory=3.25, profile=False),
}


def check_output(path: Path, layout: Layout, *, with_profile: bool = False) -> None:
    """Check, before computing, that the format of ``path`` can hold the image.

    Raises:
        UsageError: the suffix is of no format that can be written.
        OutputError: the format cannot hold the depth, the alpha, the profile or the size.
    """
    kind = _format_of(path)
    for missing, what in (
        (layout.bits > 8 and not kind.deep, "16-bit samples"),
        (layout.channels in (2, 4) and not kind.alpha, "transparency"),
        (with_profile and not kind.profile, "a colour profile"),
        (max(layout.height, layout.width) > kind.max_side, f"{layout.width}x{layout.height} pixels"),
    ):
        if missing:
            raise OutputError(f"{path}: {kind.name} files written here cannot hold {what}.", _USE_PNG)
    if kind is not _PNG and layout.height * layout.width > MAX_WHOLE_PIXELS:
        raise OutputError(
            f"{path}: {layout.width}x{layout.height} pixels are too many to write as {kind.name}.", _USE_PNG
        )


def writing_bytes(path: Path, layout: Layout) -> int:
    """Predict how much memory writing takes: next to none for a PNG, which is never held whole.

    Raises:
        UsageError: the suffix is of no format that can be written.
    """
    image_bytes = layout.height * layout.width * layout.channels * layout.bits // 8
    return int(_format_of(path).memory * image_bytes)


def write_image(
    path: Path,
    strips: Iterable[NDArray[Any]],
    layout: Layout,
    metadata: Metadata | None = None,
    *,
    replace: bool = True,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write an image that comes in strips of rows; a PNG is never in memory whole.

    Args:
        path: the suffix decides the format.
        strips: (rows, W) or (rows, W, channels), from top to bottom.
        layout: what the strips add up to.
        metadata: what to say about the image, as far as the format holds it: PNG holds all, JPEG an EXIF of up to
            64 KiB, TIFF the descriptive fields of an EXIF, WebP no resolution, BMP nothing else.
        replace: whether the image may take the place of a file that is there by the time it is written.
        check: called when everything is written, before the image appears; what it raises prevents that.

    Raises:
        OutputError: the format cannot hold the image, a file is in the way, the folder is not writable, or the disk is
            full.
    """
    metadata = metadata or Metadata()
    check_output(path, layout, with_profile=metadata.icc_profile is not None)
    kind = _format_of(path)
    with atomic_path(path, replace=replace) as temporary:
        with temporary.open("wb") as stream:
            if kind is _PNG:
                write_png(stream, strips, layout, metadata)
            elif kind is _TIFF:
                _write_tiff(stream, _joined(strips, layout), metadata)
            else:
                _write_whole(stream, _joined(strips, layout), kind, metadata)
        check()


def _format_of(path: Path) -> _Format:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"{path} does not end as an image does.", f"End it in one of {', '.join(_FORMATS)}.") from None


def write_png(stream: BinaryIO, strips: Iterable[NDArray[Any]], layout: Layout, metadata: Metadata) -> None:
    """Write a PNG to a stream; see ``write_image``.

    Raises:
        OSError: the stream does not take it.
    """
    png = PngStream(stream, layout, metadata)
    for strip in strips:
        png.write(strip)
        del strip  # before the next one is waited for
    png.finish()


def _joined(strips: Iterable[NDArray[Any]], layout: Layout) -> NDArray[Any]:
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


def _write_tiff(stream: BinaryIO, pixels: NDArray[Any], metadata: Metadata) -> None:
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
        iccprofile=metadata.icc_profile,
        resolution=metadata.dpi,
        resolutionunit="inch" if metadata.dpi else None,
        extratags=[(tag, "s", 0, text, True) for tag, text in descriptive_fields(metadata.exif or b"").items()],
        metadata=None,
        software=False,
    )


def _write_whole(stream: BinaryIO, pixels: NDArray[Any], kind: _Format, metadata: Metadata) -> None:
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels)
    options = dict(kind.options)
    if metadata.icc_profile:
        options["icc_profile"] = metadata.icc_profile
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    if metadata.exif and len(metadata.exif) <= kind.max_exif_bytes:
        options["exif"] = PREFIX + metadata.exif
    # By way of memory: where the disk is full, Pillow's own writing to files does not say so.
    encoded = io.BytesIO()
    image.save(encoded, format=kind.name, **options)
    stream.write(encoded.getbuffer())
