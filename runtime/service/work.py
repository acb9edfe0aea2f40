"""One request: an image file in, an image file out, watched while it is made."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

from drc_deploy.errors import DrcDeployError, ImageError
from drc_deploy.images.formats import Saving, check_quality, output_notes, writing_bytes
from drc_deploy.images.output_size import OutputSize
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.reading import decoding_bytes, read_image
from drc_deploy.images.unreadable import kind_of
from drc_deploy.images.writing import write_image
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.jobs.sized import SizedResult
from drc_deploy.runtime.service.room import Room
from drc_deploy.runtime.stopping import Stop
from drc_deploy.runtime.upscaler import Upscaler

STAGES = ("queue", "read", "compute")
"""Of a request, in their order. Writing is part of computing: a result is written while it is made."""


@dataclass(slots=True, eq=False)
class Watch(Stop):
    """What is known of a request while it is made; others read it and may stop it.

    Attributes:
        stage: One of ``STAGES``.
        tiles: Of the image; 0 until it was read.
        done: Tiles that are finished.
        seconds: What each stage took so far.
    """

    stage: str = STAGES[0]
    tiles: int = 0
    done: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def advance(self, tiles: int) -> None:
        """Count finished tiles; errors as for ``check``."""
        self.done += tiles
        self.check()

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Time a stage."""
        self.check()
        self.stage, start = stage, time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for."""

    suffix: str = ".png"
    size: OutputSize = field(default_factory=OutputSize)
    linear_light: bool = False
    saving: Saving = field(default_factory=Saving)

    def check(self, scale: int) -> None:
        """Refuse what no image can get from a network for ``scale``.

        Raises:
            UsageError: a larger factor, or a quality for a format that has none.
        """
        self.size.check(scale)
        check_quality(Path(f"result{self.suffix}"), self.saving)


@dataclass(frozen=True, slots=True)
class Made:
    """A result."""

    path: Path
    width: int
    height: int
    notes: tuple[str, ...]
    """What was lost on the way, in sentences."""


def make(upscaler: Upscaler, folder: Path, wanted: Wanted, watch: Watch, room: Room) -> Made:
    """Upscale the image ``folder/image`` to a file next to it, within the memory of ``room``.

    Raises:
        ImageError: it cannot be read, or cannot have the size that is wanted.
        OutputError: the format cannot hold the result, or the disk is full.
        ArtefactError: the network failed.
        StoppedError: ``watch`` was asked to stop.
    """
    with watch.during("read"):
        _refuse_jpeg_2000(folder / "image")
        with room.taken(decoding_bytes(folder / "image"), watch.check):
            picture = read_image(folder / "image")
    with watch.during("compute"):
        image, scale = picture.pixels, upscaler.info.scale
        sized = SizedResult(Layout.of(image), scale, wanted.size, linear_light=wanted.linear_light)
        layout, target = sized.layout, folder / f"result{wanted.suffix}"
        metadata = picture.metadata.for_size(layout.width, layout.height)
        notes = (*picture.notes, *output_notes(target, layout, metadata))
        if not sized.needs_network:
            notes += (f"the image has {image.shape[1]}x{image.shape[0]} pixels: it is resized without the network.",)
        held = image.nbytes + sized.held_bytes + writing_bytes(target, layout, metadata, wanted.saving)
        with room.taken(held, watch.check):
            made = iter([image])
            if sized.needs_network:
                task = upscaler.task(image)
                watch.tiles = task.tile_count
                made = upscaler.run(task, watch.advance)
            strips = _watched(sized.strips(made), watch)
            write_image(target, strips, layout, metadata, saving=wanted.saving, check=watch.check)
    return Made(target, layout.width, layout.height, tuple(_nameless(note, folder) for note in notes))


def _refuse_jpeg_2000(path: Path) -> None:
    """Keep strangers from a decoder with a known fault: no release of OpenJPEG mends OSV-2025-219.

    Raises:
        ImageError: it is one.
    """
    with path.open("rb") as stream:
        if kind_of(stream) == "JPEG 2000":
            raise ImageError("the image is a JPEG 2000, which is not taken here.", "Send it as PNG or TIFF.")


def _watched(strips: Iterator[Pixels], watch: Watch) -> Iterator[Pixels]:
    for strip in strips:
        watch.check()
        yield strip


def _nameless(text: str, folder: Path) -> str:
    """Return a text about files in ``folder`` for somebody who does not know that folder."""
    return text.replace(f"{folder / 'image'}", "the image").replace(f"{folder}/", "")


def nameless(error: DrcDeployError, *folders: Path) -> DrcDeployError:
    """Return an error for the caller, without names of these folders."""
    other = copy(error)
    for folder in folders:
        other.message, other.hint = _nameless(other.message, folder), _nameless(other.hint, folder)
    other.__cause__ = error.__cause__
    return other
