"""Animations from files: what they say of themselves, and their frames one after the other."""

import io
import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from drc_deploy.errors import ImageError
from drc_deploy.images.animation import apng, webp
from drc_deploy.images.animation.gif import read_gif
from drc_deploy.images.animation.parts import AnimationFrame, Rgba, as_rgba, composed, frame_name
from drc_deploy.images.metadata import Metadata, metadata_of
from drc_deploy.images.modes import plain, upright
from drc_deploy.images.opening import open_image
from drc_deploy.images.reading import explained, opened, silence
from drc_deploy.images.reading_notes import notes_on
from drc_deploy.images.strips import Colour, flattened
from drc_deploy.images.tags.colour import NoProfileError, profile_for
from drc_deploy.images.tags.exif import orientation_of
from drc_deploy.images.unreadable import kind_of

_OPAQUE = 255
_HEAD_BYTES = 64
_PER_SECOND = 1000
"""Pillow's durations are in milliseconds."""


@dataclass(frozen=True, slots=True)
class Animation:
    """What an animation says of itself, and how its frames are handed out."""

    height: int
    """Of the frames, upright."""
    width: int
    durations: tuple[Fraction, ...]
    """Seconds, of each frame. Browsers show those of 0.01 or less for 0.1."""
    plays: int
    """How often it is shown; 0 is for ever."""
    alpha: bool
    """Whether any frame has a pixel that is not opaque, and no ``background`` is put behind it."""
    metadata: Metadata
    orientation: int
    """EXIF orientation of the frames as they are stored."""
    notes: tuple[str, ...]
    """What a user should know, each a sentence."""
    background: Colour | None = None
    """Put behind all frames."""
    to_srgb: bytes | None = None
    """The colour profile from which colours are converted to sRGB."""

    def on(self, background: Colour | None) -> "Animation":
        """Return the animation with a colour behind it; None leaves it as it is."""
        return replace(self, alpha=False, background=background) if self.alpha and background else self

    def in_srgb(self, name: str) -> "Animation":
        """Return the animation in the colours of sRGB, for a file that holds no profile.

        Raises:
            ImageError: its colours are none that can be converted; ``name`` is what the message calls it.
        """
        try:
            profile = self.metadata.icc_profile or profile_for(self.metadata.colour, grey=False)
        except NoProfileError as error:
            raise ImageError(
                f"{name} has colours that cannot be converted to sRGB ({error}).", "Write a .png instead."
            ) from error
        return replace(self, metadata=replace(self.metadata, icc_profile=None, colour=()), to_srgb=profile)


def is_animation(path: Path) -> bool:
    """Return whether a file is a GIF, PNG, WebP or AVIF of several frames, by its content; nothing is decoded."""
    if not os.path.isfile(path):
        return False  # looking into a pipe would take away what is to be read
    try:
        with path.open("rb") as stream:
            return _has_frames(stream)
    except Exception:  # reading it reports the damage
        return False


def begins_animation(head: bytes) -> bool:
    """Return whether a file is an animation, by its first bytes: those of two frames of a GIF or a WebP are enough."""
    try:
        return _has_frames(io.BytesIO(head))
    except Exception:  # reading it reports the damage
        return False


def _has_frames(stream: BinaryIO) -> bool:
    kind = kind_of(stream)
    if kind == "GIF":
        return len(read_gif(stream, most=2).parts) > 1
    if kind == "PNG":
        return apng.says_animated(stream)
    if kind == "WebP":
        return webp.says_animated(stream)
    stream.seek(0)
    if kind != "AVIF" or b"avis" not in stream.read(_HEAD_BYTES):
        return False  # without a look into all of the file
    with silence(), open_image(stream, "the image") as image:
        return getattr(image, "n_frames", 1) > 1


def read_animation(path: Path, *, tolerant: bool = False) -> Animation:
    """Decode all frames once, so that damage, and whether there is any transparency, are known before the work begins.

    Args:
        path: what ``is_animation`` is true for.
        tolerant: take the frames before a damaged one, with a note, instead of refusing the file.

    Raises:
        ImageError: it is missing or damaged, or larger than is allowed.
    """
    name = str(path)
    with _opened(path) as stream, explained(stream, name), open_image(stream, name) as image:
        image.load()
        orientation = orientation_of(image)
        metadata = metadata_of(image, stream, orientation)
        notes = list(notes_on(image, metadata, name, animated=True))
        height, width = upright(np.empty((image.height, image.width, 0)), orientation).shape[:2]
        plays = _plays(image, stream)
    durations: list[Fraction] = []
    alpha = False
    try:
        for frame in _survey(path):
            durations.append(frame.duration)
            alpha = alpha or bool((frame.pixels[:, :, 3] != _OPAQUE).any())
    except ImageError as error:
        if not tolerant or not durations:
            hint = " `upscale --tolerant` takes the frames before it." if durations else ""
            raise ImageError(error.message, error.hint + hint) from error
        notes.append(f"{error.message} Only the frames before it are used: {len(durations)}.")
    found = Animation(height, width, tuple(durations), plays, alpha, metadata, orientation, tuple(notes))
    # The frames become RGB, whatever they are.
    return found.in_srgb(name) if metadata.icc_profile and not metadata.has_rgb_profile else found


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file; of a WebP that ends early, which Pillow does not open, what is whole."""
    with opened(path) as stream:
        yield (webp.without_missing(stream) if kind_of(stream) == "WebP" else None) or stream


def _survey(path: Path) -> Iterator[AnimationFrame]:
    """Yield all frames, and find out whether any is missing.

    Raises:
        ImageError: one is damaged or missing.
    """
    count = 0
    with _opened(path) as stream:
        for frame in _stored_frames(stream, str(path)):
            yield frame
            count += 1
    with opened(path) as stream:
        if kind_of(stream) == "WebP" and webp.without_missing(stream):
            raise ImageError(f"{path} ends early, after {count} frames.", "Copy the file again.")


def _plays(image: Image.Image, stream: BinaryIO) -> int:
    if image.format == "GIF":
        return read_gif(stream).plays
    return int(image.info.get("loop", 0))


def frames_of(path: Path, animation: Animation) -> Generator[AnimationFrame, None, None]:
    """Decode the frames of a file one by one: RGBA where ``animation`` has an alpha, else RGB.

    Args:
        path: the file.
        animation: what ``read_animation`` returned of it.

    Raises:
        ImageError: the file is damaged, or was changed meanwhile.
    """
    count, convert = 0, _Conversion(animation)
    with _opened(path) as stream, closing(_stored_frames(stream, str(path))) as frames:
        for stored, duration in islice(frames, len(animation.durations)):
            pixels = convert(stored)
            if pixels.shape[:2] != (animation.height, animation.width):
                break
            yield AnimationFrame(pixels, duration)
            count += 1
    if count != len(animation.durations):
        raise ImageError(f"{path} changed while it was upscaled.", "Upscale it again when it is complete.")


class _Conversion:
    """Turns frames as they are stored into those that are handed out."""

    def __init__(self, animation: Animation) -> None:
        self._animation = animation
        if profile := animation.to_srgb:
            self._mode = "L" if profile[16:20] == b"GRAY" else "RGB"
            source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            self._transform = ImageCms.buildTransform(source, target, self._mode, "RGB")

    def __call__(self, stored: Rgba) -> NDArray[np.uint8]:
        animation, pixels = self._animation, stored
        if animation.to_srgb:
            colours = stored[:, :, 0] if self._mode == "L" else stored[:, :, :3]
            converted = ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(colours)), self._transform)
            pixels = np.dstack([np.asarray(converted), stored[:, :, 3:]])
        if animation.background:
            pixels = flattened(pixels, animation.background, grey=False)
        return upright(pixels if animation.alpha else pixels[:, :, :3], animation.orientation)


def _stored_frames(stream: BinaryIO, name: str) -> Generator[AnimationFrame, None, None]:
    """Yield all frames as RGBA, as they are stored.

    Raises:
        ImageError: one is damaged.
    """
    kind = kind_of(stream)
    if kind in ("GIF", "PNG"):
        with explained(stream, name), open_image(stream, name) as image:
            width, height = image.size  # a GIF grows to its first part
            parts = (read_gif(stream) if kind == "GIF" else apng.read_apng(stream)).parts
        yield from composed(parts, height, width, stream, name)
        return
    with explained(stream, name):
        image = open_image(stream, name)
    with image:
        yield from _composed_by_pillow(image, stream, name)


def _composed_by_pillow(image: Image.Image, stream: BinaryIO, name: str) -> Iterator[AnimationFrame]:
    """Yield the frames of a WebP, which its own library composes, or of an AVIF, whose frames are whole."""
    for index in range(getattr(image, "n_frames", 1)):
        with explained(stream, frame_name(index + 1, name)):
            image.seek(index)
            image.load()
            pixels = as_rgba(np.asarray(plain(image)))
        yield AnimationFrame(pixels, Fraction(image.info["duration"], _PER_SECOND))
