"""What a worker is asked at once, and how it does it with its open network."""

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from drc_deploy.errors import DrcDeployError
from drc_deploy.progress import UNSEEN
from drc_deploy.runtime.jobs.plan import Job, UpscaleJob
from drc_deploy.runtime.jobs.run import Outcome, RunOptions
from drc_deploy.runtime.remote.run import run_anywhere
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.batch import alone, of_videos
from drc_deploy.runtime.video.options import VideoOptions
from drc_deploy.runtime.video.segments import Part
from drc_deploy.runtime.video.upscale import OneVideo

LEAST_SEGMENTS = 2
"""Of a part: a shorter one takes about as long to begin as to make on a fast GPU."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of all files."""

    options: RunOptions
    made_by: Mapping[str, object]
    video: VideoOptions


@dataclass(frozen=True, slots=True)
class Files:
    """Upscale files, all of each."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class OfVideo:
    """Do something for a video."""

    job: UpscaleJob

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The video."""
        return (self.job,)


@dataclass(frozen=True, slots=True)
class MissingSegments(OfVideo):
    """Find out which segments of a video several workers can make."""


@dataclass(frozen=True, slots=True)
class VideoPart(OfVideo):
    """Make some segments of a video."""

    part: Part


@dataclass(frozen=True, slots=True)
class JoinedVideo(OfVideo):
    """Make what is still missing of a video, and join its segments."""

    count: int | None
    """How many there are; None: not known."""


Task = Files | MissingSegments | VideoPart | JoinedVideo


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker has done."""

    outcome: Outcome = dataclasses.field(default_factory=lambda: Outcome([], [], []))
    """Of files that are finished, skipped or have failed."""
    missing: tuple[int, ...] = ()
    """Segments of a video; none where one worker had better upscale it."""
    end: int | None = None
    """Of a part, where the video may end before it; None: it could not be made."""


def do(task: Task, upscaler: Upscaler, asked: Asked) -> Done:
    """Do what a worker is asked; files that fail are in the outcome."""
    if isinstance(task, Files):
        return Done(run_anywhere(upscaler, task.jobs, asked.options, asked.made_by, asked.video))
    options = of_videos(asked.options, asked.made_by, asked.video)
    video = OneVideo(upscaler, task.job, options, asked.made_by, asked.video)
    if isinstance(task, VideoPart):
        return Done(end=_end_of(video, task.part))
    if isinstance(task, JoinedVideo):
        return Done(alone(task.job, lambda: video.upscale(task.count), UNSEEN))
    return Done(missing=_missing_of(video))


def _missing_of(video: OneVideo) -> tuple[int, ...]:
    with suppress(DrcDeployError, MemoryError):  # whoever upscales the video meets it again
        return tuple(video.missing_segments(2 * LEAST_SEGMENTS))
    return ()


def _end_of(video: OneVideo, part: Part) -> int | None:
    with suppress(DrcDeployError, MemoryError):  # as above
        return video.make_part(part)
    return None
