"""Folders of very many files, handed out to workers that are none of Ray's."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drc_deploy.files import atomic_path, sha256_of
from drc_deploy.runtime.cluster.run import ClusterRun
from drc_deploy.runtime.cluster.tasks import Asked, Done, Files, Task
from drc_deploy.runtime.cluster.worker import Recipe, Reply, Worker
from drc_deploy.runtime.cluster.workers import Answer
from drc_deploy.runtime.jobs.plan import Job, UpscaleJob
from drc_deploy.runtime.jobs.run import Finished, Outcome, RunOptions
from drc_deploy.runtime.video.options import VideoOptions
from tests.runtime.calls import calls_of
from tests.runtime.networks import write_nearest


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

    def give(self, worker: Any, asked: Any, task: Task, **how: bool) -> None:
        jobs = task.jobs if isinstance(task, Files) else ()  # no segments of a video
        finished = [Finished(job.input_name, job.output_name, 1, 1, 0.0, 1) for job in jobs]
        done = Done(Outcome(finished, [], []))
        self.answered.append(Answer(worker, task, Reply(done, ("A note.",), 0, None)))
        self.most_at_once = max(self.most_at_once, len(self.answered))

    def answers(self, _wait_s: float) -> Iterator[Answer]:
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


class Ending(Instant):
    """Workers, the first one to get a task ends over it."""

    def __init__(self) -> None:
        super().__init__()
        self.again: list[tuple[int, bool]] = []

    def give(self, worker: Any, asked: Any, task: Task, **how: bool) -> None:
        self.again.append((len(task.jobs), how["again"]))
        super().give(worker, asked, task)
        if len(self.again) == 1:
            self.answered[-1] = Answer(worker, task, ended=True, begun=True)
            self.answered.append(Answer(worker, None))


def test_what_a_worker_left_that_ended_is_looked_for_by_those_that_get_its_files(tmp_path: Path) -> None:
    jobs: list[Job] = [UpscaleJob(tmp_path / f"{n}.png", tmp_path / f"out/{n}.png") for n in range(60)]
    workers = Ending()
    outcome = ClusterRun(workers).run(jobs, RunOptions(), {}, VideoOptions())  # type: ignore[arg-type]
    assert len(outcome.finished) == 60
    had = workers.again[0][0]
    assert had > 1
    assert [count for count, again in workers.again if again] == [1] * had


def test_a_worker_removes_what_another_left_after_it_has_read_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_nearest(tmp_path / "n.onnx")
    (tmp_path / "out").mkdir()
    for number in range(20):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
        (tmp_path / f"out/other{number}").touch()
    worker = Worker(Recipe(tmp_path / "n.onnx", sha256_of(tmp_path / "n.onnx"), {"threads": 1}, None, None, tmp_path))

    def left_of(number: int) -> Path:
        with atomic_path(tmp_path / f"out/{number}.png") as temporary:
            left = temporary.with_name(temporary.name.replace(temporary.stem[-8:], "01234567"))
            temporary.touch()
        (tmp_path / f"out/{number}.png").unlink()
        return left

    def upscale(number: int, *, again: bool) -> None:
        task = Files((UpscaleJob(tmp_path / f"{number}.png", tmp_path / f"out/{number}.png"),))
        reply = worker.run(Asked(RunOptions(), {}, VideoOptions()), task, again=again, replace=False)
        assert len(reply.done.outcome.finished) == 1

    left = [left_of(number) for number in (1, 2)]
    upscale(0, again=False)
    for path in left:
        path.touch()
    upscale(1, again=True)
    upscale(2, again=False)
    assert not any(path.exists() for path in left)
