"""Images and videos of one command: the images overlap each other, and each video overlaps within itself."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.records import Records
from drc_deploy.runtime.jobs.run import Failed, Outcome, RunOptions, or_failed, run_jobs
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.options import VideoOptions
from drc_deploy.runtime.video.upscale import upscale_video


def run_all(
    upscaler: Upscaler,
    jobs: Sequence[UpscaleJob],
    options: RunOptions,
    made_by: Mapping[str, object],
    video: VideoOptions,
) -> Outcome:
    """Upscale the images, and then the videos, whatever happens to the others.

    Args:
        upscaler: the network.
        jobs: all of them.
        options: for images and videos; records of the latter depend on ``video`` too.
        made_by: what pixels depend on besides the source.
        video: how videos are written.

    Raises:
        ModuleNotFoundError: there are videos, and PyAV is not installed.
    """
    videos = [job for job in jobs if job.is_video]
    if videos:
        import av  # noqa: F401  # before hours of images
    outcome = run_jobs(upscaler, [job for job in jobs if not job.is_video], options)
    if options.records:
        options = dataclasses.replace(options, records=Records({**made_by, "video": dataclasses.asdict(video)}))
    for job in videos:
        result = or_failed(job, partial(upscale_video, upscaler, job, options, made_by, video))
        outcome = _with(outcome, Outcome([], [], [result]) if isinstance(result, Failed) else result)
    return outcome


def _with(outcome: Outcome, other: Outcome) -> Outcome:
    return Outcome(
        outcome.finished + other.finished,
        outcome.skipped + other.skipped,
        outcome.failed + other.failed,
        outcome.redone + other.redone,
    )
