"""File formats of images: what each can hold, and what is asked before anything is computed."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import ImageColor

from drc_deploy.errors import OutputError, UsageError
from drc_deploy.images.finding import Named
from drc_deploy.images.metadata import Metadata
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.strips import Colour
from drc_deploy.images.tags.colour import NoProfileError, profile_for
from drc_deploy.images.tags.exif import describes_the_shot
from drc_deploy.images.tags.iptc import MAX_JPEG_BYTES
from drc_deploy.images.tags.png_chunks import COMMENT_KEYWORD

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
    pixel_memory: int = 0
    """Bytes that it takes besides for each pixel, however many channels it has."""
    max_pixels: int = MAX_WHOLE_PIXELS
    deep: bool = False
    """Whether it holds 16 bits a sample."""
    alpha: bool = False
    profile: bool = True
    """Whether it holds a colour profile."""
    texts: bool = False
    """Whether it holds the chunks of a PNG for colours and texts."""
    animated: bool = False
    """Whether it holds animations."""
    max_exif_bytes: int = _ANY
    max_xmp_bytes: int = _ANY
    max_iptc_bytes: int = _ANY
    options: dict[str, Any] = field(default_factory=dict)


PNG = Format("PNG", max_side=2**31 - 1, memory=0, deep=True, alpha=True, texts=True, animated=True)
JPEG = Format(
    "JPEG",
    max_side=65500,
    memory=3.25,
    max_exif_bytes=65527,
    max_xmp_bytes=65504,
    max_iptc_bytes=MAX_JPEG_BYTES,
    options={"quality": 95, "subsampling": "4:4:4"},
)
GIF = Format(
    "GIF",
    max_side=2**16 - 1,
    memory=6,
    alpha=True,
    profile=False,
    animated=True,
    max_exif_bytes=0,
    max_xmp_bytes=0,
    max_iptc_bytes=0,
)
TIFF = Format("TIFF", max_side=2**31 - 1, memory=1.25, deep=True, alpha=True)
FORMATS = {
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".jpe": JPEG,
    ".jfif": JPEG,
    ".webp": Format(
        "WebP", max_side=16383, memory=12, alpha=True, animated=True, max_iptc_bytes=0, options={"quality": 95}
    ),
    ".gif": GIF,
    ".avif": Format(
        "AVIF",
        max_side=2**15,
        memory=0,
        pixel_memory=54,
        max_pixels=2**28,
        alpha=True,
        max_iptc_bytes=0,
        options={"quality": 90, "subsampling": "4:4:4"},
    ),
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


@dataclass(frozen=True, slots=True)
class Saving:
    """How files are written, as far as users choose."""

    quality: int | None = None
    """1 to 100, of formats with a loss; None is that of each format."""
    background: Colour | None = None
    """Put behind transparent pixels, which the file then has no alpha for; None keeps the alpha."""


AS_IT_IS = Saving()


def saving_of(quality: int | None, background: str | None) -> Saving:
    """Return how files are written; ``background`` is a name or #rrggbb, as CSS has them.

    Raises:
        UsageError: it is no colour, or a transparent one.
    """
    if background is None:
        return Saving(quality)
    try:
        red, green, blue = ImageColor.getrgb(background)  # type: ignore[misc]  # four values, if it is transparent
    except ValueError as error:
        raise UsageError(
            f"{background} is not a colour.", "Give a name, such as white, or #rrggbb, such as #ff8000."
        ) from error
    return Saving(quality, (red, green, blue))


def check_quality(path: Named | None, saving: Saving) -> None:
    """Refuse a quality for a format that has none; None is standard output, which gets a PNG.

    Raises:
        UsageError: as said, or the suffix is of no format that can be written.
    """
    kind = PNG if path is None else format_of(path)
    if saving.quality is not None and "quality" not in kind.options:
        lossy = sorted({other.name for other in FORMATS.values() if "quality" in other.options})
        raise UsageError(
            f"{path or 'standard output'} gets no --quality: {kind.name} "
            f"{'has none' if kind is GIF else 'is written without a loss'}.",
            f"It is for {', '.join(lossy)}.",
        )


def check_output(path: Path, layout: Layout, metadata: Metadata | None = None, saving: Saving = AS_IT_IS) -> None:
    """Check, before computing, that the format of ``path`` can hold the image.

    Raises:
        UsageError: the suffix is of no format that can be written.
        OutputError: the format cannot hold the alpha, the colours or the size.
    """
    kind, metadata = format_of(path), metadata or Metadata()
    layout = file_layout(kind, layout, metadata, saving)
    try:
        profile = profile_in(metadata, layout, kind)
    except NoProfileError as error:
        raise OutputError(
            f"{path}: {kind.name} files written here cannot hold the colours of the image ({error}).", _USE_PNG
        ) from error
    if layout.channels in (2, 4) and not kind.alpha:
        raise OutputError(
            f"{path}: {kind.name} files written here cannot hold transparency.",
            f"{_USE_PNG} Or name the colour to put behind it with --background.",
        )
    for missing, what in (
        (profile is not None and not kind.profile, "a colour profile"),
        (max(layout.height, layout.width) > kind.max_side, f"{layout.width}x{layout.height} pixels"),
    ):
        if missing:
            raise OutputError(f"{path}: {kind.name} files written here cannot hold {what}.", _USE_PNG)
    if kind is not PNG and layout.height * layout.width > kind.max_pixels:
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


def output_notes(path: Path, layout: Layout, metadata: Metadata) -> Iterator[str]:
    """Yield a sentence for each thing that the format of ``path`` cannot hold of an image that it is written with.

    Raises:
        UsageError: the suffix is of no format that can be written.
    """
    kind = format_of(path)
    if kind is GIF:
        alpha = ", and pixels that are less than half opaque become transparent" if layout.channels in (2, 4) else ""
        yield f"{path}: a GIF holds 256 colours a picture, so more are dithered{alpha}."
    elif layout.bits > 8 and not kind.deep:
        yield f"{path}: 16 bits a sample are dithered to the 8 that {kind.name} holds."
    texts = [chunk.keyword for chunk in metadata.texts if kind is not GIF or chunk.keyword != COMMENT_KEYWORD]
    names = ", ".join(dict.fromkeys(ascii(keyword.decode("latin-1")) for keyword in texts))
    missing = [
        what
        for what, size, most in (
            ("EXIF", len(metadata.exif or b""), kind.max_exif_bytes),
            ("XMP", len(metadata.xmp or b""), kind.max_xmp_bytes),
            ("IPTC", len(metadata.iptc or b""), kind.max_iptc_bytes),
            (f"the texts ({names})", len(texts), _ANY if kind.texts else 0),
        )
        if size > most
    ]
    if kind is TIFF and describes_the_shot(metadata.exif or b""):
        yield f"{path} lacks exposure, lens and place of the original: a TIFF written here has no EXIF of its own."
    if missing:
        yield f"{path} lacks {' and '.join(missing)} of the original, which {kind.name} cannot hold."


def writing_bytes(path: Path, layout: Layout, metadata: Metadata | None = None, saving: Saving = AS_IT_IS) -> int:
    """Predict how much memory writing takes: next to none for a PNG, which is never held whole.

    Raises:
        UsageError: the suffix is of no format that can be written.
    """
    kind = format_of(path)
    layout = file_layout(kind, layout, metadata or Metadata(), saving)
    pixel_bytes = layout.channels * layout.bits // 8
    return int((kind.memory * pixel_bytes + kind.pixel_memory) * layout.height * layout.width)


def format_of(path: Named) -> Format:
    """Return the format that the suffix of ``path`` asks for.

    Raises:
        UsageError: none that can be written.
    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"{path} does not end as an image does.", f"End it in one of {', '.join(FORMATS)}.") from None


def file_layout(kind: Format, layout: Layout, metadata: Metadata, saving: Saving) -> Layout:
    """Return the layout that the file gets.

    Alpha goes where there is a background, grey with a profile of RGB becomes RGB, since formats refuse the two, and so
    does grey on a colour. A format without 16 bits gets 8.
    """
    channels = layout.channels
    if saving.background and channels in (2, 4):
        channels = 1 if channels == 2 and len(set(saving.background)) == 1 else 3
    if metadata.has_rgb_profile and channels < 3:
        channels += 2
    return replace(layout, channels=channels, bits=layout.bits if kind.deep else 8)
