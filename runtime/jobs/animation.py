"""Upscales one animation into another: each frame alone, read ahead and written behind."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from drc_deploy.files import check_writable
from drc_deploy.images.animation.parts import AnimationFrame
from drc_deploy.images.animation.reading import Animation, frames_of, read_animation
from drc_deploy.images.animation.writing import Content, check_animation, write_animation, writing_animation_bytes
from drc_deploy.images.formats import format_of, output_notes
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.reading import decoding_bytes
from drc_deploy.progress import Progress, progress
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.jobs.pipeline import WriteBehind, made_ahead
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import Finished, Outcome, RunOptions, check_unchanged, run_one
from drc_deploy.runtime.jobs.sized import SizedResult
from drc_deploy.runtime.upscaler import Upscaler

_log = logging.getLogger(__name__)

_HELD_FRAMES = 5
"""The one that is upscaled, the one before, the next, the canvas, and what it was before; each RGBA."""


def upscale_animation(upscaler: Upscaler, job: UpscaleJob, options: RunOptions) -> Outcome:
    """Upscale every frame of an animation; times, loops, transparency and metadata are kept as the format holds them.

    Args:
        upscaler: the network.
        job: from file to file, of an animation to a format that holds one.
        options: what to do where the result exists, and how it is written.

    Raises:
        ImageError: the source is damaged, or changes meanwhile.
        OutputError: the result is in the way, cannot hold the animation, or cannot be written.
        ArtefactError: the network failed.
        UsageError: the memory allowed is too little.
    """
    return run_one(job, options, partial(_make, upscaler, job, options))


@dataclass(frozen=True, slots=True)
class _Task:
    """An animation and all that is decided before its first frame."""

    animation: Animation
    sized: SizedResult
    content: Content
    """Of the result."""
    held: int
    """Bytes that are taken besides those of the network."""


def _make(upscaler: Upscaler, job: UpscaleJob, options: RunOptions, version: tuple[int, int] | None) -> Finished:
    start = time.perf_counter()
    source, target = Path(job.input_name), Path(job.output_name)
    task = _plan(upscaler, source, target, options)
    count, maker = len(task.animation.durations), _Maker(upscaler, task)
    check, saving, replace = partial(check_unchanged, source, version), options.saving, options.replace
    write = partial(write_animation, target, content=task.content, saving=saving, replace=replace, check=check)
    with (
        progress(f"{job.title}: frame", count) as bar,
        closing(made_ahead(frames_of(source, task.animation))) as frames,
        WriteBehind() as writer,
    ):
        written = writer.write(maker.made(frames, bar), write)
    written.result()
    layout, seconds = task.content.layout, round(time.perf_counter() - start, 3)
    return Finished(str(source), str(target), layout.width, layout.height, seconds, maker.tiles, count)


def _plan(upscaler: Upscaler, source: Path, target: Path, options: RunOptions) -> _Task:
    """Decide everything, say what is lost, and find out whether the result can be written."""
    upscaler.networks.check_room(decoding_bytes(source), f"reading {source}")
    animation = read_animation(source, tolerant=options.tolerant).on(options.saving.background)
    if not format_of(target).profile:
        animation = animation.in_srgb(str(source))
    frame = Layout(animation.height, animation.width, 4 if animation.alpha else 3, 8)
    sized = SizedResult(frame, upscaler.info.scale, options.size, linear_light=options.linear_light)
    metadata = animation.metadata.for_size(sized.layout.width, sized.layout.height)
    content = Content(sized.layout, animation.durations, animation.plays, metadata)
    check_animation(target, content, options.saving)
    for note in (*animation.notes, *output_notes(target, sized.layout, metadata)):
        _log.warning(note)
    if not sized.needs_network:
        size = frame.width, frame.height
        _log.warning("%s has %dx%d pixels: it is resized without the network.", source, *size)
    check_writable(target.parent)
    held = decoding_bytes(source) + _HELD_FRAMES * 4 * frame.height * frame.width
    held += sized.held_bytes + writing_animation_bytes(target, sized.layout, options.saving)
    upscaler.networks.check_room(held, f"upscaling {source}")
    return _Task(animation, sized, content, held)


class _Maker:
    """Makes the results of frames; of one that is equal to the one before, as on a screen, nothing is computed.

    Attributes:
        tiles: How many tiles the network was run on.
    """

    def __init__(self, upscaler: Upscaler, task: _Task) -> None:
        self._upscaler, self._task = upscaler, task
        self.tiles = 0

    def made(self, frames: Iterable[AnimationFrame], bar: Progress) -> Iterator[AnimationFrame]:
        """Yield the result of each frame."""
        before, result = np.empty(0, np.uint8), np.empty(0, np.uint8)
        for pixels, duration in frames:
            if not np.array_equal(pixels, before):
                before, result = pixels, self._result(pixels)
            yield AnimationFrame(result, duration)
            bar.advance()

    def _result(self, pixels: Pixels) -> Pixels:
        sized, strips = self._task.sized, iter([pixels])
        if sized.needs_network:
            task = self._upscaler.task(pixels, also_held=self._task.held)
            self.tiles += task.tile_count
            strips = self._upscaler.run(task)
        return np.concatenate(list(sized.strips(strips)))
