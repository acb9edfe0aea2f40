"""What handing out very many files to workers takes of the command itself. The workers are none of Ray's."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drc_deploy.runtime.cluster.run import ClusterRun
from drc_deploy.runtime.cluster.tasks import Done, Files, Task
from drc_deploy.runtime.cluster.worker import Reply
from drc_deploy.runtime.cluster.workers import Answer
from drc_deploy.runtime.jobs.plan import Job, UpscaleJob
from drc_deploy.runtime.jobs.run import Finished, Outcome, RunOptions
from drc_deploy.runtime.video.options import VideoOptions
from tests.runtime.calls import calls_of


class Instant:
    """Workers that do everything at once."""

    count = 3

    def __init__(self) -> None:
        self.answered: deque[Answer] = deque(Answer(worker, None) for worker in self._names)
        self.most_at_once = 0

    @property
    def _names(self) -> list[Any]:
        return list(range(self.count))

    def share(self, asked: Any) -> Any:
        return asked

    def give(self, worker: Any, _: Any, task: Task, **__: bool) -> None:
        jobs = task.jobs if isinstance(task, Files) else ()  # no segments of a video
        finished = [Finished(job.input_name, job.output_name, 1, 1, 0.0, 1) for job in jobs]
        done = Done(Outcome(finished, [], []))
        self.answered.append(Answer(worker, task, Reply(done, ("A note.",), 0, None)))
        self.most_at_once = max(self.most_at_once, len(self.answered))

    def answers(self) -> Iterator[Answer]:
        yield self.answered.popleft()


@pytest.mark.parametrize("suffix", ["png", "mp4"])
def test_the_work_for_each_file_is_the_same_however_many_there_are(tmp_path: Path, suffix: str) -> None:
    def calls(count: int) -> int:
        jobs: list[Job] = [UpscaleJob(tmp_path / f"{n}.{suffix}", tmp_path / f"out/{n}.{suffix}") for n in range(count)]
        workers = Instant()
        run = ClusterRun(workers)  # type: ignore[arg-type]
        outcomes: list[Outcome] = []
        called = calls_of(lambda: outcomes.append(run.run(jobs, RunOptions(), {}, VideoOptions())))
        assert [item.input for item in outcomes[0].finished] == [job.input_name for job in jobs]
        assert workers.most_at_once <= workers.count
        return called

    calls(50)  # whatever is done once
    assert calls(800) < 2.2 * calls(400)
