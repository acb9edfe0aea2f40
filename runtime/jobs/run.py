"""Upscales one image file after the other, reading and writing while the network computes."""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

from drc_deploy.errors import DrcDeployError, ImageError, OutputError
from drc_deploy.files import check_writable, exists_already, version_of
from drc_deploy.images.formats import AS_IT_IS, Saving, check_output, output_notes, writing_bytes
from drc_deploy.images.output_size import OutputSize
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.reading import Picture, decode_image, decoding_bytes, read_image
from drc_deploy.images.writing import write_image, write_png
from drc_deploy.progress import UNSEEN, Progress, progress
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.worker_pool import Result
from drc_deploy.runtime.jobs.pipeline import WriteBehind, read_ahead
from drc_deploy.runtime.jobs.plan import Job, UpscaleJob
from drc_deploy.runtime.jobs.records import Records
from drc_deploy.runtime.jobs.sized import SizedResult
from drc_deploy.runtime.jobs.streams import read_standard_input, standard_output
from drc_deploy.runtime.memory.heap import give_back_freed
from drc_deploy.runtime.upscaler import ImageTask, Upscaler

_log = logging.getLogger(__name__)

READ_AHEAD_BYTES = 448 << 20
"""An image whose reading takes more is read when its turn comes, so that only one of them is in memory."""
READ_AHEAD_SHARE = 1 / 16
"""So is one that takes more of the memory allowed."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to treat results that exist, and damage, and how large results are."""

    overwrite: bool = False
    """Write over results that exist."""
    skip_existing: bool = False
    """Leave out images whose result exists and is not older than they are; do the others again. So are results that
    are known to be of another engine or of other options."""
    tolerant: bool = False
    """Take what is left of a damaged JPEG, animation or video."""
    saving: Saving = AS_IT_IS
    """How images are written."""
    size: OutputSize = field(default_factory=OutputSize)
    linear_light: bool = False
    """Reduce light instead of samples, where ``size`` is smaller than what the network makes."""
    records: Records | None = None
    """What made results that exist; those that are made are added. None: nothing is known of them."""

    @property
    def replace(self) -> bool:
        """Whether a result may take the place of a file: whoever skips what is finished wants the rest anew."""
        return self.overwrite or self.skip_existing


@dataclass(frozen=True, slots=True)
class Finished:
    """One image, animation or video that was upscaled."""

    input: str
    output: str
    width: int
    """Of the output, in pixels."""
    height: int
    seconds: float
    """For reading it, and from the start of its computation to the finished file. The next image is under way by
    then: these add up to more than the run takes."""
    tiles: int
    """How many tiles the network was run on; 0 where the image was reduced without it."""
    frames: int = 1
    """Of an animation or a video."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """One image whose result was there already."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Failed:
    """One image that could not be upscaled."""

    input: str
    error: str
    hint: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results for all images, each in the order in which they were named."""

    finished: list[Finished]
    skipped: list[Skipped]
    failed: list[Failed]
    redone: int = 0
    """How many of the finished ones had a result of another engine or of other options."""


def run_jobs(upscaler: Upscaler, jobs: Sequence[UpscaleJob], options: RunOptions, bar: Progress = UNSEEN) -> Outcome:
    """Upscale every image, whatever happens to the others; ``bar`` counts them."""
    states = [_state(job, options) for job in jobs]
    to_do = [job for job, state in zip(jobs, states, strict=True) if state != "finished"]
    others = [state == "another's" for state in states if state != "finished"]
    bar.expect(len(to_do) - len(jobs))
    begun: deque[_Begun] = deque()
    results: list[Finished | Failed] = []
    read = partial(_read, upscaler, tolerant=options.tolerant)
    early = lru_cache(2)(partial(_fits_next_to_another, upscaler))  # asked twice, and it looks into the file
    with WriteBehind() as writer, closing(read_ahead(to_do, read, early=early)) as readings:
        for index, (job, reading) in enumerate(zip(to_do, readings, strict=True)):
            following = to_do[index + 1 : index + 2]
            ahead = list(filter(early, following))
            also_held = sum(map(_reading_bytes, ahead))
            work = partial(_upscale, upscaler, options, writer, job, reading, also_held)
            begun.append(_Begun(job, or_failed(job, work)))
            results += _ended(begun)
            bar.advance()
            if following and not ahead:  # it is read next, and needs the memory that this one has had
                writer.wait_for_all_but(0)
                upscaler.networks.give_back()
    results += _ended(begun)
    return Outcome(
        [result for result in results if isinstance(result, Finished)],
        [
            Skipped(job.input_name, job.output_name)
            for job, state in zip(jobs, states, strict=True)
            if state == "finished"
        ],
        [result for result in results if isinstance(result, Failed)],
        sum(isinstance(result, Finished) for result, other in zip(results, others, strict=True) if other),
    )


class _Begun(NamedTuple):
    """An image that was computed, and may still be being written."""

    job: UpscaleJob
    result: "Future[Finished] | Failed"


def _ended(begun: "deque[_Begun]") -> Iterator[Finished | Failed]:
    """Take the results out of ``begun`` that are known, in order.

    A future holds much more than its result, and that of an error all that its functions had: each image goes at once.
    """
    while begun and (isinstance(begun[0].result, Failed) or begun[0].result.done()):
        job, result = begun.popleft()
        yield result if isinstance(result, Failed) else or_failed(job, result.result)


def run_one(job: UpscaleJob, options: RunOptions, make: Callable[[tuple[int, int] | None], Finished]) -> Outcome:
    """Make the result of one animation or video from file to file, unless it is there and is to stay.

    Args:
        job: from file to file.
        options: what to do where the result exists.
        make: makes it; is given the ``version_of`` the source before it is read.

    Raises:
        OutputError: the result is in the way.
        Exception: whatever ``make`` raises.
    """
    state = _state(job, options)
    if state == "finished":
        return Outcome([], [Skipped(job.input_name, job.output_name)], [])
    check_target(job, options)
    version = version_of(Path(job.input_name))
    result = make(version)
    if options.records and version:
        options.records.keep(version, Path(job.output_name))
    return Outcome([result], [], [], redone=int(state == "another's"))


State = Literal["to do", "finished", "another's"]


def stays(job: UpscaleJob, options: RunOptions) -> bool:
    """Return whether the result of an animation or a video is there, and is to stay."""
    return _state(job, options) == "finished"


def _state(job: UpscaleJob, options: RunOptions) -> State:
    """Return what is to be done where results may stay; they are written whole or not at all.

    Times decide only where nothing is known of a result: those of sources may lie in the future.
    """
    if not options.skip_existing or job.source is None or job.target is None:
        return "to do"
    try:
        there = os.path.isfile(job.target)
        newer = there and job.target.stat().st_mtime_ns >= job.source.stat().st_mtime_ns
    except OSError:  # reading or writing it will say why
        return "to do"
    return state_of(same=options.records.same(job) if options.records and there else None, newer=newer)


def state_of(*, same: bool | None, newer: bool) -> State:
    """Return what is to be done about a result: whether it is that of now, None if nobody knows, or the newer file."""
    if same or (same is None and newer):
        return "finished"
    return "another's" if newer else "to do"


def _fits_next_to_another(upscaler: Upscaler, job: UpscaleJob) -> bool:
    limit = upscaler.networks.limit
    most = READ_AHEAD_BYTES if limit is None else min(READ_AHEAD_SHARE * limit, READ_AHEAD_BYTES)
    return job.source is not None and _reading_bytes(job) <= most


def _reading_bytes(job: UpscaleJob) -> int:
    return 0 if job.source is None else decoding_bytes(job.source)


def or_failed(job: Job, work: Callable[[], Result]) -> Result | Failed:
    """Return the result of ``work``, or why it failed."""
    try:
        return work()
    except DrcDeployError as error:
        return Failed(job.input_name, error.message, error.hint)
    except MemoryError as error:
        reason = f": {error}" if str(error) else ""
        message = f"{job.input_name} needs more memory than there is{reason}."
        return Failed(job.input_name, message, "Give a smaller --tile, or cut the image into parts.")


class _Reading(NamedTuple):
    """One image that was read."""

    picture: Picture
    seconds: float
    version: tuple[int, int] | None
    """Of the file, from before it was read."""


def _read(upscaler: Upscaler, job: UpscaleJob, *, tolerant: bool) -> _Reading:
    start = time.perf_counter()
    version = None if job.source is None else version_of(job.source)
    check_room = partial(upscaler.networks.check_room, what=f"reading {job.input_name}")
    check_room(_reading_bytes(job))
    if job.source is None:
        picture = decode_image(
            read_standard_input(check_room), job.input_name, tolerant=tolerant, check_room=check_room
        )
    else:
        picture = read_image(job.source, tolerant=tolerant, check_room=check_room)
    return _Reading(picture, time.perf_counter() - start, version)


def _upscale(
    upscaler: Upscaler,
    options: RunOptions,
    writer: WriteBehind,
    job: UpscaleJob,
    reading: "Future[_Reading]",
    also_held: int,
) -> "Future[Finished]":
    """Compute one image while it is being written; reading the next takes ``also_held`` bytes meanwhile.

    Raises:
        ImageError: the input cannot be read, or changes meanwhile.
        OutputError: the output is in the way, cannot hold the image, or cannot be written.
        ArtefactError: the network failed.
        UsageError: the memory allowed is too little.
    """
    check_target(job, options)
    picture, read_s, version = reading.result()
    give_back_freed()  # or what decoding has left would come on top
    start = time.perf_counter()
    for note in picture.notes:
        _log.warning(note)
    scale = upscaler.info.scale
    sized = SizedResult(Layout.of(picture.pixels), scale, options.size, linear_light=options.linear_light)
    layout = sized.layout
    metadata = picture.metadata.for_size(layout.width, layout.height)
    if job.target is not None:
        check_output(job.target, layout, metadata, options.saving)
        for note in output_notes(job.target, layout, metadata):
            _log.warning(note)
        check_writable(job.target.parent)
        also_held += writing_bytes(job.target, layout, metadata, options.saving)
    task = _task(upscaler, job, picture.pixels, sized, also_held + sized.held_bytes)
    tile_count = task.tile_count if task else 0

    def write(made_strips: Iterator[Pixels]) -> Finished:
        strips = sized.strips(made_strips)
        if job.target is None:
            with standard_output() as stream:
                write_png(stream, strips, layout, metadata, options.saving)
        else:
            check = partial(check_unchanged, job.source, version)
            saving, replace = options.saving, options.replace
            write_image(job.target, strips, layout, metadata, saving=saving, replace=replace, check=check)
            if options.records and version:
                options.records.keep(version, job.target)
        seconds = round(read_s + time.perf_counter() - start, 3)
        return Finished(job.input_name, job.output_name, layout.width, layout.height, seconds, tile_count)

    with progress(job.title, tile_count) as bar:
        made = upscaler.run(task, bar.advance) if task else iter([picture.pixels])
        return writer.write(made, write)


def _task(upscaler: Upscaler, job: UpscaleJob, image: Pixels, sized: SizedResult, also_held: int) -> ImageTask | None:
    """Return how the network upscales the image; None where the image is reduced without it.

    Raises:
        UsageError: the memory allowed is too little.
    """
    if sized.needs_network:
        return upscaler.task(image, also_held=also_held)
    upscaler.networks.check_room(image.nbytes + also_held, f"reducing {job.input_name}")
    height, width = image.shape[:2]
    _log.warning("%s has %dx%d pixels: it is resized without the network.", job.input_name, width, height)
    return None


def check_target(job: UpscaleJob, options: RunOptions) -> None:
    """Refuse to write over the input, or over anything without leave."""
    if job.target is None or not os.path.lexists(job.target):
        return
    if job.source is not None and _are_same(job.source, job.target):
        raise OutputError(f"{job.target} is the input itself.", "Give another name with -o.")
    if job.target.is_dir():
        raise OutputError(f"{job.target} is a folder.", "Give another name with -o.")
    if not options.replace:
        raise exists_already(job.target)


def _are_same(source: Path, target: Path) -> bool:
    return os.path.exists(source) and os.path.exists(target) and source.samefile(target)


def check_unchanged(source: Path | None, version: tuple[int, int] | None) -> None:
    """Refuse a source that is another one now: the result, which is newer, would be taken for that of the new one.

    Args:
        source: what was read, None standard input; one that is gone by now gave a result that stays right.
        version: of ``version_of``, from before it was read.

    Raises:
        ImageError: it changed.
    """
    now = None if source is None else version_of(source)
    if None not in (version, now) and now != version:
        raise ImageError(f"{source} changed while it was upscaled.", "Upscale it again when it is complete.")
