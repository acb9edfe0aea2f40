"""Files of one command wherever they are: those elsewhere are fetched one at a time, upscaled here, and put.

    storage ──fetch──▶ temporary folder ──run_all──▶ temporary folder ──put──▶ storage

Results to the disk of this machine are written there at once, but for videos from elsewhere: unfinished work is no use
to another command, which fetches its source anew. A command that is killed leaves its temporary folder, which the next
one removes.
"""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from PIL import Image

from drc_deploy.errors import OutputError, UsageError
from drc_deploy.files import atomic_path, cannot_write, check_writable, exists_already, scratch_folder, version_of
from drc_deploy.images.finding import is_video
from drc_deploy.progress import progress_of_files
from drc_deploy.runtime.jobs.plan import WRITTEN_VIDEO_SUFFIXES, Job, RemoteJob, UpscaleJob, file_job
from drc_deploy.runtime.jobs.records import Records
from drc_deploy.runtime.jobs.run import Failed, Outcome, RunOptions, Skipped, State, check_target, state_of
from drc_deploy.runtime.remote.url import Place, Url, Version
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.batch import alone, of_videos, run_all, together
from drc_deploy.runtime.video.options import VideoOptions

_NAME_CHARACTERS = 50
"""Of a fetched file: in UTF-8 they are as many bytes as every disk takes."""
_BYTES_A_PIXEL, _METADATA_BYTES = 16, 64 << 20
"""No image file that is read here has more: four channels of 32 bits."""
_SPARE_BYTES = 256 << 20
"""Of the temporary folder, which others use too."""


def run_anywhere(
    upscaler: Upscaler,
    jobs: Sequence[Job],
    options: RunOptions,
    made_by: Mapping[str, object],
    video: VideoOptions,
) -> Outcome:
    """Upscale files as ``run_all`` does: first those of this machine, then those elsewhere, videos last.

    Raises:
        OutputError: there is no room for temporary files.
        ModuleNotFoundError: videos are made, and PyAV is not installed; or fsspec is not.
    """
    here = [job for job in jobs if isinstance(job, UpscaleJob)]
    elsewhere = [job for job in jobs if isinstance(job, RemoteJob)]
    if elsewhere and any(job.makes_video for job in jobs):
        import av  # noqa: F401  # before hours of images
    with progress_of_files("Upscaling", len(jobs)) as bar:
        outcome = run_all(upscaler, here, options, made_by, video, bar)
        if not elsewhere:
            return outcome
        run = _Run(upscaler, options, made_by, video)
        with scratch_folder() as folder:
            order = sorted(elsewhere, key=lambda job: job.makes_video)
            return together([outcome, *(alone(job, partial(run.upscale, job, folder), bar) for job in order)])


class Before:
    """Which results were there before a command began to make some."""

    def __init__(self) -> None:
        self._names_in = cache(_names_in)

    def had_result(self, job: Job) -> bool:
        """Return whether there was a result of a job; a folder elsewhere is listed once, when it is first asked for."""
        if not isinstance(job.target, Url):
            return os.path.lexists(str(job.target))
        names = self._names_in(job.target.parent)
        return names is None or job.target.name in names


def _names_in(folder: Url) -> frozenset[str] | None:
    """Return the names of all files in a folder; None where they cannot be found out."""
    from drc_deploy.runtime.remote import storage

    try:
        return frozenset(file.name for file in storage.files_in(folder))
    except OutputError:
        return None


@dataclass(frozen=True, slots=True)
class _Files:
    """Where the files of a job lie on this machine while it runs."""

    source: Path | None
    target: Path | None
    names: Mapping[str, str]
    """Path -> the name that a user knows, for each that is temporary."""

    @classmethod
    def of(cls, job: RemoteJob, folder: Path) -> "_Files":
        """Return those of a job in an empty folder."""
        source, target, names = job.source, job.target, {}
        if isinstance(source, Url):
            source = _inside(folder / "in", source)
            names[str(source)] = job.input_name
        if isinstance(target, Url) or (target and job.makes_video and isinstance(job.source, Url)):
            target = _inside(folder / "out", target)
            names[str(target)] = job.output_name
        return cls(source, target, names)

    def renamed(self, text: str) -> str:
        """Return a text with the names that a user knows."""
        for path, name in self.names.items():
            text = text.replace(path, name)
        return text


@contextmanager
def _files(job: RemoteJob, folder: Path) -> Iterator[_Files]:
    """Yield where the files of a job lie: in a folder in ``folder``, that is gone after the block.

    Raises:
        OutputError: it cannot be made.
    """
    with ExitStack() as held:
        try:
            inside = held.enter_context(tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True))
            files = _Files.of(job, Path(inside))
        except OSError as error:
            raise cannot_write("temporary files", error) from error
        yield files


def _inside(folder: Path, place: Place) -> Path:
    folder.mkdir()
    name = "".join(character if character.isprintable() else "_" for character in place.name)
    return folder / name[-_NAME_CHARACTERS:]


class _Run:
    """All that the files of one command share."""

    def __init__(
        self, upscaler: Upscaler, options: RunOptions, made_by: Mapping[str, object], video: VideoOptions
    ) -> None:
        from drc_deploy.runtime.remote import storage

        self._upscaler, self._options, self._made_by, self._video = upscaler, options, made_by, video
        self._storage = storage
        self._check_bucket = cache(storage.check_bucket)
        self._of_videos = of_videos(options, made_by, video).records

    def upscale(self, job: RemoteJob, folder: Path) -> Outcome:
        """Fetch a file, upscale it and put its result, unless that is there and is to stay.

        Raises:
            ImageError: it cannot be fetched.
            OutputError: its result is in the way, or cannot be put.
        """
        state = self._state(job)
        if state == "finished":
            return Outcome([], [Skipped(job.input_name, job.output_name)], [])
        self._check_target(job)
        start = time.perf_counter()
        with _files(job, folder) as files:
            with _renamed_notes(files.renamed):
                version = self._fetch(job, files)
                outcome = self._made(job, files)
            if outcome.finished and files.target and files.target != job.target:
                self._publish(job, files.target, version)
        outcome = _renamed(outcome, job, files, time.perf_counter() - start)
        return replace(outcome, redone=int(bool(outcome.finished) and state == "another's"))

    def _records(self, job: RemoteJob) -> Records | None:
        return self._of_videos if job.makes_video else self._options.records

    def _state(self, job: RemoteJob) -> State:
        """Return what is to be done where results may stay, without fetching anything."""
        records = self._records(job)
        if not self._options.skip_existing or records is None or job.source is None or job.target is None:
            return "to do"
        source, result = self._version_of(job.source), records.result(job.target)
        if source is None or result is None:
            return "to do"
        return state_of(same=records.made(job.target, source, result), newer=result[1] >= source[1])

    def _version_of(self, place: Place) -> Version | None:
        if isinstance(place, Path):
            return version_of(place)
        return place.version or self._storage.version_of(place)

    def _check_target(self, job: RemoteJob) -> None:
        """Refuse to write over the input, or over anything without leave, before the work."""
        if not isinstance(job.target, Url):
            check_target(UpscaleJob(None, job.target), self._options)
            return
        self._check_bucket(Url(job.target.scheme, job.target.authority))
        if job.target == job.source:
            raise OutputError(f"{job.target} is the input itself.", "Give another name with -o.")
        if not self._options.replace and self._storage.exists(job.target):
            raise exists_already(job.target)

    def _fetch(self, job: RemoteJob, files: _Files) -> Version | None:
        """Fetch the source, unless it is here, and return its version."""
        if isinstance(job.source, Url) and files.source:
            most = _most_bytes(job.source, files.source.parent)
            return self._storage.fetch(job.source, files.source, most, dated=self._options.records is not None)
        return version_of(files.source) if files.source else None

    def _made(self, job: RemoteJob, files: _Files) -> Outcome:
        """Upscale what is here now, as if it had always been."""
        local = _local_job(job, files)
        options = replace(self._options, overwrite=self._options.replace, skip_existing=False)
        if files.target != job.target:
            options = replace(options, records=None)
            if isinstance(job.target, Path):
                check_writable(job.target.parent)
        return run_all(self._upscaler, [local], options, self._made_by, self._video)

    def _publish(self, job: RemoteJob, result: Path, version: Version | None) -> None:
        """Put a result where it belongs, and note what it was made of."""
        records = self._records(job) if version else None
        if isinstance(job.target, Url):
            self._storage.put(result, job.target, replace=self._options.replace)
            if version and records:
                records.keep_there(version, job.target)
        elif job.target:
            with atomic_path(job.target, replace=self._options.replace) as temporary:
                shutil.copyfile(result, temporary)
            if version and records:
                records.keep(version, job.target)


def _local_job(job: RemoteJob, files: _Files) -> UpscaleJob:
    """Return the job of this machine.

    Raises:
        UsageError: a video would be made of what has no frames, which could not be seen before.
    """
    if files.source is None or files.target is None:
        return UpscaleJob(files.source, files.target)
    local = file_job(files.source, files.target)
    if job.animated and not local.animated:
        written = ", ".join(WRITTEN_VIDEO_SUFFIXES)
        raise UsageError(
            f"{job.input_name} is one image, and {job.output_name} would be a video.", f"End -o in none of {written}."
        )
    return local


def _most_bytes(url: Url, folder: Path) -> int:
    """Return how long a file may be: as an image of the most pixels that are allowed, or as there is room for.

    Raises:
        OutputError: the folder is gone.
    """
    try:
        free = max(shutil.disk_usage(folder).free - _SPARE_BYTES, 0)
    except OSError as error:
        raise cannot_write("temporary files", error) from error
    if is_video(url) or Image.MAX_IMAGE_PIXELS is None:
        return free
    return min(free, 2 * Image.MAX_IMAGE_PIXELS * _BYTES_A_PIXEL + _METADATA_BYTES)


def _renamed(outcome: Outcome, job: RemoteJob, files: _Files, seconds: float) -> Outcome:
    """Return an outcome with the names that a user knows, and the time that it took with all that was copied."""
    finished = [
        replace(item, input=job.input_name, output=job.output_name, seconds=round(seconds, 3))
        for item in outcome.finished
    ]
    failed = [Failed(job.input_name, files.renamed(item.error), files.renamed(item.hint)) for item in outcome.failed]
    return replace(outcome, finished=finished, failed=failed)


@contextmanager
def _renamed_notes(rename: Callable[[str], str]) -> Iterator[None]:
    """Have notes of the log changed by ``rename``, wherever they are printed or kept."""
    make = logging.getLogRecordFactory()

    def make_renamed(*arguments: object, **named: object) -> logging.LogRecord:
        record = make(*arguments, **named)
        record.msg, record.args = rename(record.getMessage()), ()
        return record

    logging.setLogRecordFactory(make_renamed)
    try:
        yield
    finally:
        logging.setLogRecordFactory(make)
