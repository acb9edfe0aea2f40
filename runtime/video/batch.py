"""Images, animations and videos of one command: images overlap each other, and the others within themselves."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from drc_deploy.progress import UNSEEN, Progress
from drc_deploy.runtime.jobs.animation import upscale_animation
from drc_deploy.runtime.jobs.plan import Job, UpscaleJob
from drc_deploy.runtime.jobs.run import Failed, Outcome, RunOptions, or_failed, run_jobs
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.options import VideoOptions
from drc_deploy.runtime.video.upscale import OneVideo


def run_all(
    upscaler: Upscaler,
    jobs: Sequence[UpscaleJob],
    options: RunOptions,
    made_by: Mapping[str, object],
    video: VideoOptions,
    bar: Progress = UNSEEN,
) -> Outcome:
    """Upscale the images, then the animations, and then the videos, whatever happens to the others.

    Args:
        upscaler: the network.
        jobs: all of them.
        options: for images and videos; records of the latter depend on ``video`` too.
        made_by: what pixels depend on besides the source.
        video: how videos are written.
        bar: counts the files.

    Raises:
        ModuleNotFoundError: videos are made, and PyAV is not installed.
    """
    videos = [job for job in jobs if job.makes_video]
    animations = [job for job in jobs if job.animated and not job.makes_video]
    if videos:
        import av  # noqa: F401  # before hours of images
    images = [job for job in jobs if not job.animated and not job.makes_video]
    outcomes = [run_jobs(upscaler, images, options, bar)]
    for job in animations:
        outcomes.append(alone(job, partial(upscale_animation, upscaler, job, options), bar))
    options = of_videos(options, made_by, video)
    for job in videos:
        outcomes.append(alone(job, OneVideo(upscaler, job, options, made_by, video).upscale, bar))
    return together(outcomes)


def of_videos(options: RunOptions, made_by: Mapping[str, object], video: VideoOptions) -> RunOptions:
    """Return options with the records of videos, which depend on ``video`` too."""
    if options.records is None:
        return options
    known = {name: getattr(options, name) for name in ("size", "linear_light")}
    known |= {"video": video, "background": options.saving.background}
    return dataclasses.replace(options, records=options.records.of({**made_by, **known}))


def alone(job: Job, work: Callable[[], Outcome], bar: Progress) -> Outcome:
    """Return the outcome of one job, or that it failed; ``bar`` counts it, unless it was skipped."""
    result = or_failed(job, work)
    if isinstance(result, Outcome) and result.skipped:
        bar.expect(-1)
    else:
        bar.advance()
    return Outcome([], [], [result]) if isinstance(result, Failed) else result


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome of all, in their order."""
    return Outcome(
        [item for outcome in outcomes for item in outcome.finished],
        [item for outcome in outcomes for item in outcome.skipped],
        [item for outcome in outcomes for item in outcome.failed],
        sum(outcome.redone for outcome in outcomes),
    )
