"""Upscales a video in segments, so that a run that is stopped goes on after the last finished one.

The segments lie next to the result, in ``NAME.segments/`` without its suffix, so that they serve another format too.
They are joined in the end, without being encoded again.
"""

import dataclasses
import logging
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from drc_deploy.errors import ArtefactError, ImageError
from drc_deploy.files import check_writable
from drc_deploy.images.animation.reading import Animation, read_animation
from drc_deploy.images.output_size import OutputSize
from drc_deploy.images.png_stream import Layout
from drc_deploy.progress import Progress, progress
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.jobs.pipeline import WriteBehind, made_ahead
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import (
    Finished,
    Outcome,
    RunOptions,
    check_target,
    check_unchanged,
    run_one,
)
from drc_deploy.runtime.jobs.sized import SizedResult
from drc_deploy.runtime.paired import paired
from drc_deploy.runtime.tiling.memory_plan import Images
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.animation import animation_frames, animation_info
from drc_deploy.runtime.video.encoders import Encoding, choose_encoding
from drc_deploy.runtime.video.joining import Original, check_target_holds, join
from drc_deploy.runtime.video.options import AS_THE_SOURCE, VideoOptions
from drc_deploy.runtime.video.reading import Frame, FrameOptions, VideoInfo, frames_of, video_info
from drc_deploy.runtime.video.segments import Segments, segments_folder
from drc_deploy.runtime.video.sound import Copying
from drc_deploy.runtime.video.writing import SEGMENT_FRAMES, even_size, write_segment

_log = logging.getLogger(__name__)

_WHITE = (255, 255, 255)


def upscale_video(
    upscaler: Upscaler,
    job: UpscaleJob,
    options: RunOptions,
    made_by: Mapping[str, object],
    video: VideoOptions = AS_THE_SOURCE,
) -> Outcome:
    """Upscale every frame of a video, or of an animation into one; sound, subtitles and time stamps are kept.

    Args:
        upscaler: the network.
        job: from file to file.
        options: what to do where the result exists.
        made_by: what the frames depend on besides the source; unfinished work of anything else is thrown away.
        video: how the result is made.

    Raises:
        ImageError: the source cannot be read, holds no video that can be upscaled, or changes meanwhile.
        OutputError: the result is in the way, cannot hold the sound or the subtitles, or cannot be written or encoded,
            or another process makes it.
        ArtefactError: the network failed.
        UsageError: the encoder has no such setting.
        MissingDependencyError: PyAV lacks the encoder.
        ModuleNotFoundError: PyAV is not installed.
    """
    make = partial(_make, upscaler, job, options, made_by, video)
    return run_one(job, options, make)


def _make(
    upscaler: Upscaler,
    job: UpscaleJob,
    options: RunOptions,
    made_by: Mapping[str, object],
    video: VideoOptions,
    version: tuple[int, int] | None,
) -> Finished:
    source, target = Path(job.input_name), Path(job.output_name)
    start = time.perf_counter()
    original = _original(job, options, video)
    task = _plan(upscaler, original, target, options, video)
    identity = _identity(source)
    work = Segments(segments_folder(target, identity["source"]), task.encoding.segments)
    with work.owned():
        check_target(job, options)  # whoever owned them before may have finished it
        work.begin({**identity, **made_by, **_settings(task, options)})
        segments = _make_segments(upscaler, task, work)
        check = partial(_check_unchanged, source, version, work)
        check()
        frame_count = join(segments, task.original, target, task.encoding, check, replace=options.replace)
        work.clear()
    height, width = reversed(task.size) if task.info.turned else task.size  # as it is shown
    tiles = frame_count * _tiles_per_frame(upscaler, task) if task.sized.needs_network else 0
    seconds = round(time.perf_counter() - start, 3)
    return Finished(str(source), str(target), width, height, seconds, tiles, frame_count)


def _original(job: UpscaleJob, options: RunOptions, video: VideoOptions) -> Original:
    source = Path(job.input_name)
    if not job.animated:
        return Original(
            source,
            video_info(source, tolerant=options.tolerant),
            Copying(video.sound, video.subtitles, options.tolerant),
        )
    animation = read_animation(source, tolerant=options.tolerant).on(options.saving.background).in_srgb(str(source))
    return _of_animation(source, animation)


def _of_animation(source: Path, animation: Animation) -> Original:
    return Original(source, animation_info(animation), animation=animation)


@dataclass(frozen=True, slots=True)
class _Task:
    """A video and all that is decided before its first frame."""

    original: Original
    encoding: Encoding
    reading: FrameOptions
    sized: SizedResult
    size: tuple[int, int]
    """Height and width of the result."""

    @property
    def info(self) -> VideoInfo:
        return self.original.info


def _plan(upscaler: Upscaler, original: Original, target: Path, options: RunOptions, video: VideoOptions) -> _Task:
    """Decide everything, say what is lost, and find out whether the result can be written."""
    info, source = original.info, original.path
    for note in info.notes:
        _log.warning(note)
    if info.interlaced and video.deinterlace is None:
        raise ImageError(
            f"{source} is interlaced: its lines would show in the result.",
            "Give --deinterlace, or --no-deinterlace where the pictures are whole after all.",
        )
    encoding = choose_encoding(source, target, info, video.encoder)
    if original.animation and info.alpha and not encoding.alpha:
        _log.warning("It is laid on white. Name another colour with --background.")
        original = _of_animation(source, original.animation.on(_WHITE))
        info = original.info
    reading = FrameOptions(
        _takes_16_bits(upscaler, info, encoding), encoding.alpha, bool(video.deinterlace), options.tolerant
    )
    sized = _sized(upscaler.info.scale, info, reading, options)
    if not sized.needs_network:
        _log.warning("%s has %dx%d pixels: it is resized without the network.", source, info.width, info.height)
    full = sized.layout.height, sized.layout.width
    size = even_size(full, encoding)
    if size != full:
        _log.warning("The last row or column is left out: %s takes even numbers only.", encoding.encoder)
    check_writable(target.parent)
    check_target_holds(original, target, size, encoding)
    return _Task(original, encoding, reading, sized, size)


def _sized(scale: int, info: VideoInfo, reading: FrameOptions, options: RunOptions) -> SizedResult:
    """Return what a frame becomes: where a size is asked for, of even sides, which all encoders take."""
    frame = Layout(info.height, info.width, 4 if reading.alpha else 3, 16 if reading.deep else 8)
    step = 1 if options.size == OutputSize() else 2
    size = options.size.turned() if info.turned else options.size
    return SizedResult(frame, scale, size, linear_light=options.linear_light, step=step)


def _takes_16_bits(upscaler: Upscaler, info: VideoInfo, encoding: Encoding) -> bool:
    """Return whether frames of more than 8 bits keep them: the encoder takes them, and so does a network here."""
    if not encoding.deep:
        return False
    try:
        upscaler.fit(_planned(info, deep=True, alpha=encoding.alpha))
    except ArtefactError as error:
        _log.warning("The frames are reduced to 8 bits: %s %s", error.message, error.hint)
        return False
    return True


def _planned(info: VideoInfo, *, deep: bool, alpha: bool) -> Images:
    return Images(info.height, info.width, np.uint16 if deep else np.uint8, alpha, stream=not alpha)


def _tiles_per_frame(upscaler: Upscaler, task: _Task) -> int:
    planned = _planned(task.info, deep=task.reading.deep, alpha=task.reading.alpha)
    return upscaler.fit(planned).plan.tile_count * (2 if planned.alpha else 1)


def _identity(source: Path) -> dict[str, Any]:
    import av

    about = source.stat()
    return {
        "source": str(source.resolve()),
        "size_bytes": about.st_size,
        "changed_ns": about.st_mtime_ns,
        "segment_frames": SEGMENT_FRAMES,
        "encoder": av.__version__,
    }


def _settings(task: _Task, options: RunOptions) -> dict[str, object]:
    """Return what the segments depend on, besides the source and the network."""
    return {
        "encoding": dataclasses.asdict(task.encoding),
        "deep": task.reading.deep,
        "deinterlace": task.reading.deinterlace,
        "size": task.size,
        "linear_light": options.linear_light,
        "background": options.saving.background if task.original.animation else None,
    }


def _make_segments(upscaler: Upscaler, task: _Task, work: Segments) -> list[Path]:
    """Make the missing segments, each encoded while its frames are computed; return the paths of all."""
    count = len(work.finished())
    first_frame = count * SEGMENT_FRAMES
    written: list[Future[None]] = []
    frames = _frames(task, skip=first_frame)
    with (
        progress(task.original.path.name, max(task.info.frame_count, 1), done=first_frame) as bar,
        closing(made_ahead(frames)) as frames,
    ):
        with closing(_upscaled(upscaler, task.sized, frames, bar)) as results, WriteBehind() as writer:
            for first in results:
                segment = chain([first], islice(results, SEGMENT_FRAMES - 1))
                path = work.path(count + len(written))
                write = partial(write_segment, path, info=task.info, encoding=task.encoding)
                written.append(writer.write(segment, write))
                _raise_errors(future for future in written if future.done())
        _raise_errors(written)
    return [work.path(index) for index in range(count + len(written))]


def _frames(task: _Task, *, skip: int) -> Generator[Frame, None, None]:
    path, animation = task.original.path, task.original.animation
    if animation:
        return animation_frames(path, animation, skip=skip)
    return frames_of(path, task.info, task.reading, skip=skip)


def _check_unchanged(source: Path, version: tuple[int, int] | None, work: Segments) -> None:
    try:
        check_unchanged(source, version)
    except ImageError:
        work.clear()  # its frames may be of either file
        raise


def _upscaled(
    upscaler: Upscaler, sized: SizedResult, frames: Iterable[Frame], bar: Progress
) -> Generator[Frame, None, None]:
    def made(given: Iterator[Frame]) -> Iterator[Pixels]:
        pixels = (frame.pixels for frame in given)
        return upscaler.stream(pixels) if sized.needs_network else pixels

    for frame, result in paired(frames, made):
        yield replace(frame, pixels=sized.whole(result))
        bar.advance()


def _raise_errors(futures: Iterable[Future[None]]) -> None:
    for future in futures:
        future.result()
