"""Upscales a video in segments, so that a run that is stopped goes on after the last finished one.

The segments lie next to the result, in ``NAME.segments/``, with a note of what they were made from and by. They are
joined in the end, without being encoded again.
"""

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

from drc_deploy.errors import ImageError, UsageError
from drc_deploy.files import check_writable, version_of, write_text
from drc_deploy.only_one import only_one
from drc_deploy.progress import Progress, progress
from drc_deploy.runtime.jobs.pipeline import WriteBehind
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import (
    Finished,
    Outcome,
    RunOptions,
    Skipped,
    check_target,
    check_unchanged,
    is_finished,
)
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.reading import Frame, VideoInfo, frames_of, video_info
from drc_deploy.runtime.video.writing import SEGMENT_FRAMES, check_target_holds, join, write_segment

_log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
WRITTEN_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv")

_NOTE = "made_from.json"


def is_video(name: str) -> bool:
    """Return whether a file is a video, by its suffix."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def plan_video(inputs: Sequence[str], output: str | None, scale: int) -> UpscaleJob:
    """Decide where a video goes: ``in.mp4`` to ``in_x4.mp4`` next to it, or to ``output``, a file or a folder.

    Raises:
        UsageError: ``output`` is no name of a video that can be written, or there are several inputs.
    """
    if len(inputs) > 1:
        raise UsageError("videos are upscaled one at a time.", "Give each its own command.")
    source = Path(inputs[0])
    suffix = source.suffix if source.suffix.lower() in WRITTEN_SUFFIXES else ".mkv"
    name = f"{source.stem}_x{scale}{suffix}"
    if output is None:
        return UpscaleJob(source, source.with_name(name))
    if os.path.isdir(output):
        return UpscaleJob(source, Path(output, name))
    if Path(output).suffix.lower() not in WRITTEN_SUFFIXES:
        raise UsageError(f"{output} is not the name of a video.", f"End it in one of {', '.join(WRITTEN_SUFFIXES)}.")
    return UpscaleJob(source, Path(output))


def upscale_video(upscaler: Upscaler, job: UpscaleJob, options: RunOptions, made_by: Mapping[str, object]) -> Outcome:
    """Upscale every frame of a video; sound, subtitles, time stamps and orientation are kept.

    Args:
        upscaler: the network.
        job: from file to file.
        options: what to do where the result exists.
        made_by: what the frames depend on besides the source; unfinished work of anything else is thrown away.

    Raises:
        ImageError: the source cannot be read, holds no video that can be upscaled, or changes meanwhile.
        OutputError: the result is in the way, cannot hold the sound or the subtitles, or cannot be written, or another
            process makes it.
        ArtefactError: the network failed.
        MissingDependencyError: PyAV lacks the encoder.
        ModuleNotFoundError: PyAV is not installed.
    """
    source, target = Path(job.input_name), Path(job.output_name)
    if options.skip_existing and is_finished(job):
        return Outcome([], [Skipped(str(source), str(target))], [])
    check_target(job, options)
    start = time.perf_counter()
    version = version_of(source)
    info = video_info(source, tolerant=options.tolerant)
    for note in info.notes:
        _log.warning(note)
    check_writable(target.parent)
    check_target_holds(source, target, info)
    work = _Segments(target.with_name(f"{target.name}.segments"))
    with work.owned():
        check_target(job, options)  # whoever owned them before may have finished it
        work.begin({**_identity(source), **made_by})
        segments = _make_segments(upscaler, source, info, work, tolerant=options.tolerant)
        check = partial(_check_unchanged, source, version, work)
        check()
        frame_count = join(segments, source, target, info, check, replace=options.replace)
        work.clear()
    height, width = (side * upscaler.info.scale for side in (info.height, info.width))
    tiles = upscaler.plan(info.height, info.width).tile_count * frame_count
    seconds = round(time.perf_counter() - start, 3)
    return Outcome([Finished(str(source), str(target), width, height, seconds, tiles, frame_count)], [], [])


class _Segments:
    """The folder of finished segments: a segment is whole or not there, and they are finished in order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Keep other processes out of the folder, which is there while something is in it.

        Raises:
            OutputError: another one is in it, or it cannot be made.
        """
        check_writable(self._folder)
        with only_one(self._folder):
            try:
                yield
            finally:
                with suppress(OSError):
                    self._folder.rmdir()

    def begin(self, made_from: Mapping[str, object]) -> None:
        """Keep what was made from the same, and nothing else."""
        text = json.dumps(dict(made_from), sort_keys=True, indent=2)
        note = self._folder / _NOTE
        if not (note.is_file() and note.read_text() == text):
            self.clear()
            write_text(note, text)
        elif finished := self.finished():
            _log.warning("Going on after %d segments that are finished in %s.", len(finished), self._folder)

    def path(self, index: int) -> Path:
        """Return where a segment goes."""
        return self._folder / f"{index:06d}.nut"

    def finished(self) -> list[Path]:
        """Return the finished segments."""
        segments: list[Path] = []
        while (path := self.path(len(segments))).is_file():
            segments.append(path)
        return segments

    def clear(self) -> None:
        """Delete all segments, and nothing that someone else put there."""
        number = "[0-9]" * 6
        for pattern in (f"{number}.nut", f".{number}.*.nut", _NOTE):  # hidden ones are of a run that was killed
            for path in self._folder.glob(pattern):
                path.unlink()


def _identity(source: Path) -> dict[str, object]:
    import av

    about = source.stat()
    return {
        "source": str(source.resolve()),
        "size_bytes": about.st_size,
        "changed_ns": about.st_mtime_ns,
        "segment_frames": SEGMENT_FRAMES,
        "encoder": av.__version__,
    }


def _make_segments(upscaler: Upscaler, source: Path, info: VideoInfo, work: _Segments, *, tolerant: bool) -> list[Path]:
    """Make the missing segments, each encoded while its frames are computed; return the paths of all."""
    count = len(work.finished())
    first_frame = count * SEGMENT_FRAMES
    written: list[Future[None]] = []
    with (
        progress(source.name, max(info.frame_count, 1), done=first_frame) as bar,
        closing(frames_of(source, skip=first_frame, tolerant=tolerant)) as frames,
    ):
        results = _upscaled(upscaler, frames, bar)
        with WriteBehind() as writer:
            for first in results:
                segment = chain([first], islice(results, SEGMENT_FRAMES - 1))
                path = work.path(count + len(written))
                written.append(writer.write(segment, partial(write_segment, path, info=info)))
                _raise_errors(future for future in written if future.done())
        _raise_errors(written)
    return [work.path(index) for index in range(count + len(written))]


def _check_unchanged(source: Path, version: tuple[int, int] | None, work: _Segments) -> None:
    try:
        check_unchanged(source, version)
    except ImageError:
        work.clear()  # its frames may be of either file
        raise


def _upscaled(upscaler: Upscaler, frames: Iterable[Frame], bar: Progress) -> Iterator[Frame]:
    for frame in frames:
        yield replace(frame, pixels=upscaler(frame.pixels))
        bar.advance()


def _raise_errors(futures: Iterable[Future[None]]) -> None:
    for future in futures:
        future.result()
