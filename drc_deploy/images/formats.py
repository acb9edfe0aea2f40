"""File formats of images: what each can hold, and what is asked before anything is computed."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from drc_deploy.errors import OutputError, UsageError
from drc_deploy.images.colour import NoProfileError, profile_for
from drc_deploy.images.iptc import MAX_JPEG_BYTES
from drc_deploy.images.metadata import Metadata
from drc_deploy.images.png_stream import Layout

MAX_WHOLE_PIXELS = 10**9
"""Formats other than PNG are held in memory whole, up to this many pixels."""

_USE_PNG = "Write a .png instead."
_ANY = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Format:
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
    texts: bool = False
    """Whether it holds the chunks of a PNG for colours and texts."""
    max_exif_bytes: int = _ANY
    max_xmp_bytes: int = _ANY
    max_iptc_bytes: int = _ANY
    options: dict[str, Any] = field(default_factory=dict)


PNG = Format("PNG", max_side=2**31 - 1, memory=0, deep=True, alpha=True, texts=True)
JPEG = Format(
    "JPEG",
    max_side=65500,
    memory=3.25,
    max_exif_bytes=65527,
    max_xmp_bytes=65504,
    max_iptc_bytes=MAX_JPEG_BYTES,
    options={"quality": 95, "subsampling": "4:4:4"},
)
TIFF = Format("TIFF", max_side=2**31 - 1, memory=1.25, deep=True, alpha=True)
FORMATS = {
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".jpe": JPEG,
    ".jfif": JPEG,
    ".webp": Format("WebP", max_side=16383, memory=12, alpha=True, max_iptc_bytes=0, options={"quality": 95}),
    ".tif": TIFF,
    ".tiff": TIFF,
    ".bmp": Format(
        "BMP",
        max_side=2**31 - 1,
        memory=3.25,
        profile=False,
        max_exif_bytes=0,
        max_xmp_bytes=0,
        max_iptc_bytes=0,
    ),
}


OUTPUT_SUFFIXES = tuple(FORMATS)


def check_output(path: Path, layout: Layout, metadata: Metadata | None = None) -> None:
    """Check, before computing, that the format of ``path`` can hold the image.

    Raises:
        UsageError: the suffix is of no format that can be written.
        OutputError: the format cannot hold the depth, the alpha, the colours or the size.
    """
    kind = format_of(path)
    try:
        profile = profile_in(metadata or Metadata(), layout, kind)
    except NoProfileError as error:
        raise OutputError(
            f"{path}: {kind.name} files written here cannot hold the colours of the image ({error}).", _USE_PNG
        ) from error
    for missing, what in (
        (layout.bits > 8 and not kind.deep, "16-bit samples"),
        (layout.channels in (2, 4) and not kind.alpha, "transparency"),
        (profile is not None and not kind.profile, "a colour profile"),
        (max(layout.height, layout.width) > kind.max_side, f"{layout.width}x{layout.height} pixels"),
    ):
        if missing:
            raise OutputError(f"{path}: {kind.name} files written here cannot hold {what}.", _USE_PNG)
    if kind is not PNG and layout.height * layout.width > MAX_WHOLE_PIXELS:
        raise OutputError(
            f"{path}: {layout.width}x{layout.height} pixels are too many to write as {kind.name}.", _USE_PNG
        )


def profile_in(metadata: Metadata, layout: Layout, kind: Format) -> bytes | None:
    """Return the colour profile that the file gets: that of the image, or one that says what a PNG's chunks say.

    Raises:
        NoProfileError: no profile says it.
    """
    if metadata.icc_profile or kind.texts:
        return metadata.icc_profile
    return profile_for(metadata.colour, grey=layout.channels < 3)


def left_out(path: Path, metadata: Metadata) -> str:
    """Return a sentence that names the metadata that the format of ``path`` cannot hold; empty where it holds all.

    Raises:
        UsageError: the suffix is of no format that can be written.
    """
    kind = format_of(path)
    texts = ", ".join(dict.fromkeys(ascii(chunk.keyword.decode("latin-1")) for chunk in metadata.texts))
    missing = [
        what
        for what, size, most in (
            ("EXIF", len(metadata.exif or b""), kind.max_exif_bytes),
            ("XMP", len(metadata.xmp or b""), kind.max_xmp_bytes),
            ("IPTC", len(metadata.iptc or b""), kind.max_iptc_bytes),
            (f"the texts ({texts})", len(metadata.texts), _ANY if kind.texts else 0),
        )
        if size > most
    ]
    return f"{path} lacks {' and '.join(missing)} of the original, which {kind.name} cannot hold." if missing else ""


def writing_bytes(path: Path, layout: Layout, metadata: Metadata | None = None) -> int:
    """Predict how much memory writing takes: next to none for a PNG, which is never held whole.

    Raises:
        UsageError: the suffix is of no format that can be written.
    """
    layout = file_layout(layout, metadata or Metadata())
    image_bytes = layout.height * layout.width * layout.channels * layout.bits // 8
    return int(format_of(path).memory * image_bytes)


def format_of(path: Path) -> Format:
    """Return the format that the suffix of ``path`` asks for.

    Raises:
        UsageError: none that can be written.
    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"{path} does not end as an image does.", f"End it in one of {', '.join(FORMATS)}.") from None


def file_layout(layout: Layout, metadata: Metadata) -> Layout:
    """Return the layout that the file gets: grey with a profile of RGB becomes RGB, since formats refuse the two."""
    grey = layout.channels < 3 and metadata.has_rgb_profile
    return replace(layout, channels=layout.channels + 2) if grey else layout
