"""Upscales one animation into another: each frame alone, read ahead and written behind."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
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
from drc_deploy.runtime.jobs.pipeline import WriteBehind, made_ahead
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import Finished, Outcome, RunOptions, check_unchanged, run_one
from drc_deploy.runtime.jobs.sized import SizedResult
from drc_deploy.runtime.upscaler import Upscaler

_log = logging.getLogger(__name__)

_HELD_FRAMES = 4
"""The one that is upscaled, the next, the canvas, and what it was before; each RGBA."""


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


def _make(upscaler: Upscaler, job: UpscaleJob, options: RunOptions, version: tuple[int, int] | None) -> Finished:
    start = time.perf_counter()
    source, target = Path(job.input_name), Path(job.output_name)
    upscaler.networks.check_room(decoding_bytes(source), f"reading {source}")
    animation = _read(source, target, options)
    frame = Layout(animation.height, animation.width, 4 if animation.alpha else 3, 8)
    sized = SizedResult(frame, upscaler.info.scale, options.size, linear_light=options.linear_light)
    height, width = sized.layout.height, sized.layout.width
    metadata = animation.metadata.for_size(width, height)
    content = Content(sized.layout, animation.durations, animation.plays, metadata)
    check_animation(target, content, options.saving)
    for note in (*animation.notes, *output_notes(target, sized.layout, metadata)):
        _log.warning(note)
    if not sized.needs_network:
        _log.warning("%s has %dx%d pixels already: it is resized without the network.", source, width, height)
    check_writable(target.parent)
    held = decoding_bytes(source) + _HELD_FRAMES * 4 * frame.height * frame.width
    held += sized.held_bytes + writing_animation_bytes(target, sized.layout, options.saving)
    upscaler.networks.check_room(held, f"upscaling {source}")
    count = len(animation.durations)
    with (
        progress(f"{job.title}: frame", count) as bar,
        closing(made_ahead(frames_of(source, animation))) as frames,
        WriteBehind() as writer,
    ):
        results = _upscaled(upscaler, sized, frames, held, bar)
        check = partial(check_unchanged, source, version)
        write = partial(
            write_animation, target, content=content, saving=options.saving, replace=options.replace, check=check
        )
        written = writer.write(results, write)
    written.result()
    tiles = upscaler.plan(animation.height, animation.width).tile_count * count if sized.needs_network else 0
    seconds = round(time.perf_counter() - start, 3)
    return Finished(str(source), str(target), width, height, seconds, tiles, count)


def _read(source: Path, target: Path, options: RunOptions) -> Animation:
    animation = read_animation(source, tolerant=options.tolerant).on(options.saving.background)
    return animation if format_of(target).profile else animation.in_srgb(str(source))


def _upscaled(
    upscaler: Upscaler, sized: SizedResult, frames: Iterable[AnimationFrame], held: int, bar: Progress
) -> Iterator[AnimationFrame]:
    for pixels, duration in frames:
        strips = upscaler.run(upscaler.task(pixels, also_held=held)) if sized.needs_network else iter([pixels])
        whole = list(sized.strips(strips))
        yield AnimationFrame(whole[0] if len(whole) == 1 else np.concatenate(whole), duration)
        bar.advance()
