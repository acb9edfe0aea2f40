"""Upscales a video in segments, so that a run that is stopped goes on after the last finished one.

The segments lie next to the result, in ``NAME.segments/`` without its suffix, so that they serve another format too.
They are joined in the end, without being encoded again. Several processes can make parts of them before: each decodes
all that comes before its own, which costs a thousandth of upscaling it on a CPU. Seeking would be faster, but not all
files say where a picture is, and what is wrong with their times shows only from the beginning.
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
    stays,
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
from drc_deploy.runtime.video.segments import WHOLE, Part, Segments, segments_folder
from drc_deploy.runtime.video.sound import Copying
from drc_deploy.runtime.video.writing import SEGMENT_FRAMES, even_size, write_segment

_log = logging.getLogger(__name__)

_WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class OneVideo:
    """One video, or an animation that becomes one, and all that its result depends on.

    Errors of all methods:
        ImageError: the source cannot be read, holds no video that can be upscaled, or changes meanwhile.
        OutputError: the result is in the way, cannot hold the sound or the subtitles, or cannot be written or encoded,
            or another process makes it.
        ArtefactError: the network failed.
        UsageError: the encoder has no such setting.
        MissingDependencyError: PyAV lacks the encoder.
        ModuleNotFoundError: PyAV is not installed.
    """

    upscaler: Upscaler
    job: UpscaleJob
    """From file to file."""
    options: RunOptions
    """What to do where the result exists."""
    made_by: Mapping[str, object]
    """What the frames depend on besides the source; unfinished work of anything else is thrown away."""
    video: VideoOptions = AS_THE_SOURCE
    """How the result is made."""

    def upscale(self, count: int | None = None) -> Outcome:
        """Upscale every frame; sound, subtitles and time stamps are kept.

        Args:
            count: how many segments there are, where ``make_part`` has found that out and has made them.
        """
        return run_one(self.job, self.options, partial(self._make, count))

    def missing_segments(self, least: int) -> list[int]:
        """Return which segments of a long video are missing, and get their folder ready for ``make_part``.

        Args:
            least: how many segments make a video long.

        Returns:
            Their numbers, in order, as if every packet of the file were a frame. None where the result stays, or the
            video is shorter.
        """
        if stays(self.job, self.options):
            return []
        check_target(self.job, self.options)
        original = self._original()
        count = -(-original.info.frame_count // SEGMENT_FRAMES)
        if count < least:
            return []
        task = _plan(self.upscaler, original, Path(self.job.output_name), self.options, self.video)
        work = self._segments(task)
        with work.owned(leave=True):
            check_target(self.job, self.options)
            _note_kept(work, work.begin())
            finished = set(work.finished())
        return [index for index, path in enumerate(work.paths(count)) if path not in finished]

    def make_part(self, part: Part) -> int:
        """Make what is missing in a part of the segments, while other processes make other parts.

        Args:
            part: which segments; ``missing_segments`` has been called before, in whatever process.

        Returns:
            The end of what was made: that of the part, or an earlier one where the video ends there.
        """
        task = self._task()
        work = self._segments(task, part)
        with work.shared():
            work.take_part()
            return _make_segments(self.upscaler, task, work)

    def _make(self, count: int | None, version: tuple[int, int] | None) -> Finished:
        source, target = Path(self.job.input_name), Path(self.job.output_name)
        start = time.perf_counter()
        task = self._task()
        work = self._segments(task)
        with work.owned():
            check_target(self.job, self.options)  # whoever owned them before may have finished it
            kept = work.begin()
            if kept != count:  # all are not there yet, or they were of another source
                _note_kept(work, kept)
                count = _make_segments(self.upscaler, task, work)
            segments = work.paths(count)
            check = partial(_check_unchanged, source, version, work)
            check()
            frame_count = join(segments, task.original, target, task.encoding, check, replace=self.options.replace)
            work.clear()
        height, width = reversed(task.size) if task.info.turned else task.size  # as it is shown
        tiles = frame_count * _tiles_per_frame(self.upscaler, task) if task.sized.needs_network else 0
        seconds = round(time.perf_counter() - start, 3)
        return Finished(str(source), str(target), width, height, seconds, tiles, frame_count)

    def _original(self) -> Original:
        source, tolerant = Path(self.job.input_name), self.options.tolerant
        if not self.job.animated:
            copying = Copying(self.video.sound, self.video.subtitles, tolerant)
            return Original(source, video_info(source, tolerant=tolerant), copying)
        background = self.options.saving.background
        return _of_animation(source, read_animation(source, tolerant=tolerant).on(background).in_srgb(str(source)))

    def _task(self) -> "_Task":
        return _plan(self.upscaler, self._original(), Path(self.job.output_name), self.options, self.video)

    def _segments(self, task: "_Task", part: Part = WHOLE) -> Segments:
        made_from = {**_identity(task.original.path), **self.made_by, **_settings(task, self.options)}
        folder = segments_folder(Path(self.job.output_name), str(made_from["source"]))
        return Segments(folder, task.encoding.segments, made_from, part)


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


def _note_kept(work: Segments, kept: int) -> None:
    if kept:
        _log.warning("Going on: %d pictures are finished in %s.", kept * SEGMENT_FRAMES, work.folder)


def _make_segments(upscaler: Upscaler, task: _Task, work: Segments) -> int:
    """Make the missing segments; return the end of their part, or an earlier one where the video ends there."""
    done = len(work.finished()) * SEGMENT_FRAMES
    with progress(task.original.path.name, max(task.info.frame_count, 1), done=done) as bar:
        for gap in work.gaps():
            end = _fill(upscaler, task, work, gap, bar)
            if end != gap.stop:
                return end
    assert work.part.stop is not None  # or the last gap has no end
    return work.part.stop


def _fill(upscaler: Upscaler, task: _Task, work: Segments, gap: Part, bar: Progress) -> int:
    """Make segments that follow each other, each encoded while its frames are computed; return the one after them."""
    written: list[Future[None]] = []
    with closing(made_ahead(_frames(task, gap))) as frames:
        with closing(_upscaled(upscaler, task.sized, frames, bar)) as results, WriteBehind() as writer:
            for first in results:
                segment = chain([first], islice(results, SEGMENT_FRAMES - 1))
                path = work.path(gap.first + len(written))
                write = partial(write_segment, path, info=task.info, encoding=task.encoding)
                written.append(writer.write(segment, write))
                _raise_errors(future for future in written if future.done())
        _raise_errors(written)
    return gap.first + len(written)


def _frames(task: _Task, gap: Part) -> Generator[Frame, None, None]:
    path, animation, skip = task.original.path, task.original.animation, gap.first * SEGMENT_FRAMES
    most = None if gap.stop is None else (gap.stop - gap.first) * SEGMENT_FRAMES
    if animation:
        frames = animation_frames(path, animation, skip=skip)
    else:
        frames = frames_of(path, task.info, task.reading, skip=skip)
    with closing(frames):
        yield from islice(frames, most)


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
