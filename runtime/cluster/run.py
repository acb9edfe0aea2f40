"""Files of one command, handed out to the workers of a cluster."""

import logging
import os
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from drc_deploy.errors import UsageError
from drc_deploy.progress import Progress, progress
from drc_deploy.runtime.backends.contract import GpuMemory
from drc_deploy.runtime.cluster.tasks import Asked, Done, Files, JoinedVideo, MissingSegments, Task, VideoPart
from drc_deploy.runtime.cluster.videos import LongVideos
from drc_deploy.runtime.cluster.workers import MOST_ENDS, PATIENCE_S, Answer, Workers
from drc_deploy.runtime.jobs.plan import Job, UpscaleJob
from drc_deploy.runtime.jobs.run import Failed, Finished, Outcome, RunOptions, Skipped
from drc_deploy.runtime.remote.run import Before
from drc_deploy.runtime.video.options import VideoOptions

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""Between two looks at the segments of long videos."""
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
        self._waiting: deque[Job] = deque()
        self._waiting_videos = 0
        self._first: deque[Task] = deque()
        """Goes out before what is waiting: parts of videos that have been begun, and what ended workers had."""
        self._videos = LongVideos(workers.count)
        self._splitting = False
        """Whether parts of a video will come. One video at a time: nobody locks it before it has parts under way."""
        self._begun: set[Job] = set()
        """By workers that have ended, which may have made results that nobody knows of."""
        self._ends: Counter[Task] = Counter()
        """Of workers that were at this and nothing else."""
        self._before = Before()
        self._had_result: set[Job] = set()
        """Before anything was made."""
        self._notes: defaultdict[tuple[Job, ...], set[str]] = defaultdict(set)
        """What was said of a video: each of its parts says it again."""
        self._idle: list[Any] = []
        self._outcomes: list[Outcome] = []
        self._skipped = 0
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
        self, jobs: Sequence[Job], options: RunOptions, made_by: Mapping[str, object], video: VideoOptions
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
        self._waiting_videos = sum(job.makes_video for job in jobs)
        with progress("Upscaling", len(jobs)) as bar:
            left = len(jobs)
            while left:
                done = 0
                for answer in self._workers.answers(_LOOK_S if self._videos.under_way else PATIENCE_S):
                    done += self._lost(answer) if answer.ended else self._keep(answer)
                    if not answer.ended:
                        self._idle.append(answer.worker)
                left -= done
                self._show(bar, done)
                while self._idle and (task := self._next()):
                    again = [job for job in task.jobs if job in self._begun]
                    replace = any(job not in self._had_result for job in again)
                    self._workers.give(self._idle.pop(), asked, task, again=bool(again), replace=replace)
        return _in_order(jobs, self._outcomes)

    def _show(self, bar: Progress, files: int) -> None:
        """Count files that are done with, and segments of long videos: hours may pass between two files."""
        missing, made = self._videos.steps()
        skipped, self._skipped = self._skipped, 0
        if more := missing - skipped:
            bar.expect(more)
        if steps := files - skipped + made:
            bar.advance(steps)

    def _next(self) -> Task | None:
        """Return what a worker gets: a part of a video, or one file that goes out again, or some that are new."""
        if self._first:
            return self._first.popleft()
        if self._splitting and self._waiting and not _is_image(self._waiting[0]):
            return None
        most = min(_HANDFUL, len(self._waiting) // (2 * self._workers.count))
        taken: list[Job] = []
        size = 0
        while self._waiting and (not taken or (len(taken) < most and size <= _HANDFUL_BYTES and _is_image(taken[0]))):
            taken.append(self._waiting.popleft())
            size += _size(taken[-1])
        self._had_result.update(job for job in taken if self._before.had_result(job))
        task = self._task(taken) if taken else None
        self._waiting_videos -= sum(job.makes_video for job in taken)
        return task

    def _task(self, jobs: Sequence[Job]) -> Task:
        """Return whole files, unless there are fewer videos than workers; one elsewhere is fetched by one worker."""
        first = jobs[0]
        if isinstance(first, UpscaleJob) and first.makes_video and self._waiting_videos < self._workers.count:
            self._splitting = True
            return MissingSegments(first)
        return Files(tuple(jobs))

    def _keep(self, answer: Answer) -> int:
        """Keep what was done, and return of how many files."""
        task, reply = answer.task, answer.reply
        if task is None or reply is None:
            return 0
        for note in reply.notes:
            if note not in self._notes.get(task.jobs, ()):
                _log.warning("%s", note)
        if not isinstance(task, Files):
            self._notes[task.jobs].update(reply.notes)
        self.recomputed += reply.recomputed
        self.gpu_memory = reply.gpu_memory or self.gpu_memory
        return self._follow(task, reply.done)

    def _follow(self, task: Task, done: Done) -> int:
        """See to what follows a task; return how many files are done with."""
        outcome = done.outcome
        if isinstance(task, VideoPart):
            self._end_part(task, done)
        elif isinstance(task, JoinedVideo):
            outcome = self._videos.timed(task, outcome)
            self._videos.end(task.job)
        elif isinstance(task, MissingSegments):
            self._splitting = False
            self._first.extend(self._videos.split(task.job, done.missing) if done.missing else [Files(task.jobs)])
        self._outcomes.append(outcome)
        self._skipped += len(outcome.skipped)
        return len(outcome.finished) + len(outcome.skipped) + len(outcome.failed)

    def _end_part(self, task: VideoPart, done: Done | None) -> None:
        if joined := self._videos.ended(task, done):
            self._first.appendleft(joined)

    def _lost(self, answer: Answer) -> int:
        """Take up again what a worker had when it ended, and return how many files are given up."""
        task = answer.task
        if task is None:
            return 0
        _log.warning("A worker has ended before it finished %s.", ", ".join(job.input_name for job in task.jobs))
        if answer.begun and isinstance(task, (Files, JoinedVideo)):
            self._begun.update(task.jobs)
        if isinstance(task, Files) and len(task.jobs) > 1:  # which of them it was shows when they go out one by one
            self._first.extend(Files((job,)) for job in task.jobs)
            return 0
        self._ends[task] += answer.begun
        if self._ends[task] < MOST_ENDS:
            self._first.append(task)
            return 0
        return self._give_up(task)

    def _give_up(self, task: Task) -> int:
        """Do without a task, and return how many files fail."""
        if isinstance(task, VideoPart):
            self._end_part(task, None)  # whoever joins the video makes it, or ends over it too
            return 0
        if isinstance(task, JoinedVideo):
            self._videos.end(task.job)
        self._splitting = self._splitting and not isinstance(task, MissingSegments)
        self._outcomes.append(Outcome([], [], [_ended_workers(job) for job in task.jobs]))
        return len(task.jobs)


def _ended_workers(job: Job) -> Failed:
    message = f"{job.input_name} has ended its worker {MOST_ENDS} times."
    return Failed(
        job.input_name, message, "Upscale it without --ray to see why; give a smaller --tile if memory lacks."
    )


def _is_image(job: Job) -> bool:
    return not (job.animated or job.makes_video)


def _size(job: Job) -> int:
    try:
        return os.path.getsize(job.input_name)
    except OSError:  # reading it will say why
        return 0


def _in_order(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> Outcome:
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
