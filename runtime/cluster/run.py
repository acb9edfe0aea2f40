"""Files of one command, handed out to the workers of a cluster."""

import logging
import os
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from drc_deploy.errors import UsageError
from drc_deploy.progress import progress
from drc_deploy.runtime.backends.contract import GpuMemory
from drc_deploy.runtime.cluster.worker import Asked, Done
from drc_deploy.runtime.cluster.workers import MOST_ENDS, Answer, Workers
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import Failed, Finished, Outcome, RunOptions, Skipped
from drc_deploy.runtime.video.options import VideoOptions

_log = logging.getLogger(__name__)

_HANDFUL, _HANDFUL_BYTES = 8, 2 << 20
"""Small images are handed out together, so that reading and writing overlap computing. Large ones gain little by it."""


class ClusterRun:
    """Upscales files on all workers.

    Attributes:
        gpu_memory: What one worker has of its GPU; None: on a CPU, or not known.
        recomputed: Tiles that overflowed in half precision.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._waiting: deque[UpscaleJob] = deque()
        self._again: deque[UpscaleJob] = deque()
        """Of workers that have ended: each goes out alone, so that none ends with another."""
        self._begun: set[UpscaleJob] = set()
        """By workers that have ended, which may have made results that nobody knows of."""
        self._ends: Counter[UpscaleJob] = Counter()
        """Of workers that were at this file and nothing else."""
        self._had_result: set[UpscaleJob] = set()
        """Before anything was made."""
        self._idle: list[Any] = []
        self._outcomes: list[Outcome] = []
        self.gpu_memory: GpuMemory | None = None
        self.recomputed = 0

    @property
    def scale(self) -> int:
        """Of the network."""
        return self._workers.first.scale

    @property
    def device(self) -> str:
        """What a worker computes on."""
        return self._workers.first.device

    def run(
        self, jobs: Sequence[UpscaleJob], options: RunOptions, made_by: Mapping[str, object], video: VideoOptions
    ) -> Outcome:
        """Upscale files as ``run_all`` does, videos first: they take longest.

        Raises:
            UsageError: a standard stream is among them.
            DrcDeployError: all workers have ended for good.
        """
        if any(job.source is None or job.target is None for job in jobs):
            raise UsageError("other processes do not see standard streams.", "Name files, or leave out --ray.")
        asked = self._workers.share(Asked(options, made_by, video))
        self._waiting.extend(sorted(jobs, key=_is_image))
        with progress("Upscaling", len(jobs)) as bar:
            left = len(jobs)
            while left:
                for answer in self._workers.answers():
                    done = self._lost(answer) if answer.ended else self._keep(answer.done)
                    if not answer.ended:
                        self._idle.append(answer.worker)
                    bar.advance(done)
                    left -= done
                while self._idle and (jobs_now := self._next()):
                    replace = jobs_now[0] in self._begun and jobs_now[0] not in self._had_result
                    self._workers.give(self._idle.pop(), asked, jobs_now, replace=replace)
        return _in_order(jobs, self._outcomes)

    def _next(self) -> list[UpscaleJob]:
        """Return what a worker gets: one file that goes out again, or some that are new."""
        if self._again:
            return [self._again.popleft()]
        most = min(_HANDFUL, len(self._waiting) // (2 * self._workers.count))
        taken: list[UpscaleJob] = []
        size = 0
        while self._waiting and (not taken or (len(taken) < most and size <= _HANDFUL_BYTES and _is_image(taken[0]))):
            taken.append(self._waiting.popleft())
            size += _size(taken[-1])
        self._had_result.update(job for job in taken if os.path.lexists(str(job.target)))
        return taken

    def _keep(self, done: Done | None) -> int:
        """Keep what was done, and return of how many files."""
        if done is None:
            return 0
        for note in done.notes:
            _log.warning("%s", note)
        self.recomputed += done.recomputed
        self.gpu_memory = done.gpu_memory or self.gpu_memory
        self._outcomes.append(done.outcome)
        return len(done.outcome.finished) + len(done.outcome.skipped) + len(done.outcome.failed)

    def _lost(self, answer: Answer) -> int:
        """Take up again what a worker had when it ended, and return how many files are given up."""
        jobs = answer.jobs
        if jobs:
            _log.warning("A worker has ended before it finished %s.", ", ".join(job.input_name for job in jobs))
        self._again.extend(jobs)
        if not answer.begun:  # it ended over something else
            return 0
        self._begun.update(jobs)
        if len(jobs) > 1:  # which of them it was shows when they go out one by one
            return 0
        (job,) = jobs
        self._ends[job] += 1
        if self._ends[job] < MOST_ENDS:
            return 0
        self._again.remove(job)
        self._outcomes.append(Outcome([], [], [_ended_workers(job)]))
        return 1


def _ended_workers(job: UpscaleJob) -> Failed:
    message = f"{job.input_name} has ended its worker {MOST_ENDS} times."
    return Failed(
        job.input_name, message, "Upscale it without --ray to see why; give a smaller --tile if memory lacks."
    )


def _is_image(job: UpscaleJob) -> bool:
    return not (job.animated or job.makes_video)


def _size(job: UpscaleJob) -> int:
    try:
        return os.path.getsize(job.input_name)
    except OSError:  # reading it will say why
        return 0


def _in_order(jobs: Sequence[UpscaleJob], outcomes: Sequence[Outcome]) -> Outcome:
    """Return one outcome, in the order of ``run_all``: images, animations, videos, each as they were named."""
    order = sorted(jobs, key=lambda job: (job.makes_video, job.animated))
    place = {job.input_name: index for index, job in enumerate(order)}

    def key(item: Finished | Skipped | Failed) -> int:
        return place[item.input]

    return Outcome(
        sorted((item for outcome in outcomes for item in outcome.finished), key=key),
        sorted((item for outcome in outcomes for item in outcome.skipped), key=key),
        sorted((item for outcome in outcomes for item in outcome.failed), key=key),
        sum(outcome.redone for outcome in outcomes),
    )
