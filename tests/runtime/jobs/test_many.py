"""Folders of very many images: what is kept and what is read of each."""

import gc
import json
import os
import tracemalloc
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drc_deploy.files import version_of
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.jobs import records as module
from drc_deploy.runtime.jobs.plan import UpscaleJob, plan_jobs
from drc_deploy.runtime.jobs.records import NAME, Record, Records
from drc_deploy.runtime.jobs.run import RunOptions, run_jobs
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.batch import of_videos, run_all
from drc_deploy.runtime.video.options import VideoOptions
from tests.runtime.calls import calls_of
from tests.runtime.fake_backend import FakeBackend, fake_info

FIELDS = {"made_by": "0" * 64, "source": (1, 2), "result": (3, 4)}


class Counting(FakeBackend):
    """Notes how many futures there are at each run."""

    def __init__(self) -> None:
        super().__init__(fake_info())
        self.futures: list[int] = []

    def run(self, batch: Pixels) -> Pixels:
        self.futures.append(sum(type(each) is Future for each in gc.get_objects()))
        return super().run(batch)


def test_of_an_image_that_is_written_nothing_is_kept_but_its_result(tmp_path: Path) -> None:
    jobs = [UpscaleJob(tmp_path / f"{number}.png", tmp_path / f"out/{number}.png") for number in range(40)]
    for job in jobs:
        Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(str(job.source))
    (tmp_path / "file").touch()
    jobs[1::2] = [UpscaleJob(job.source, tmp_path / f"file/{job.title}") for job in jobs[1::2]]  # these fail
    backend = Counting()
    outcome = run_jobs(Upscaler(backend), jobs, RunOptions())
    assert (len(outcome.finished), len(outcome.failed)) == (20, 20)
    assert max(backend.futures[10:]) <= max(backend.futures[:10])


def test_the_work_for_each_image_that_is_there_is_the_same_however_many_there_are(tmp_path: Path) -> None:
    def calls(count: int) -> int:
        source, target = tmp_path / f"in{count}", tmp_path / f"out{count}"
        for folder in (source, target):
            folder.mkdir()
        Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(source / "0.png")
        for number in range(1, count // 2):
            os.link(source / "0.png", source / f"{number}.png")
        for number in range(count // 2):  # each has a namesake of another kind
            os.link(source / "0.png", source / f"{number}.bmp")
            (target / f"{number}_png.png").touch()
            (target / f"{number}_bmp.png").touch()

        def skip() -> None:
            upscaler, options = Upscaler(FakeBackend(fake_info())), RunOptions(skip_existing=True, records=Records({}))
            jobs = [job for job in plan_jobs([str(source)], str(target), "x2") if isinstance(job, UpscaleJob)]
            assert len(run_all(upscaler, jobs, options, {}, VideoOptions()).skipped) == count

        return calls_of(skip)

    calls(50)  # whatever is done once
    assert calls(800) < 2.3 * calls(400)  # sorting takes a little more


def write_records(folder: Path, names: range) -> None:
    with (folder / NAME).open("a") as stream:
        stream.writelines(json.dumps({"name": f"image_{number:07}.png", **FIELDS}) + "\n" for number in names)


def known(records: Records, folder: Path, number: int) -> bool:
    return records.made(folder / f"image_{number:07}.png", (1, 2), (3, 4)) is not None


def test_a_record_that_was_read_takes_less_than_its_line(tmp_path: Path) -> None:
    write_records(tmp_path, range(20_000))
    records, _ = Records({}), Record("a", **FIELDS)  # type: ignore[arg-type]
    assert not known(records, tmp_path / "other", 0)
    tracemalloc.start()
    assert known(records, tmp_path, 19_999)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / 20_000 < 350


def test_of_more_lines_than_are_read_the_newest_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_records(tmp_path, range(100))
    line = len((tmp_path / NAME).read_bytes().splitlines()[0]) + 1
    monkeypatch.setattr(module, "_MOST_BYTES", 10 * line + line // 2)
    records = Records({})
    assert [number for number in range(100) if known(records, tmp_path, number)] == list(range(90, 100))


def test_the_records_of_a_folder_of_videos_are_read_once_for_all(tmp_path: Path) -> None:
    source, target = tmp_path / "a.mp4", tmp_path / "b.mp4"
    for path in (source, target):
        path.touch()
    options = RunOptions(records=Records({}))

    def same() -> bool | None:
        records = of_videos(options, {}, VideoOptions()).records
        assert records is not None
        return records.same(UpscaleJob(source, target))

    version, kept = version_of(source), of_videos(options, {}, VideoOptions()).records
    assert version is not None
    assert kept is not None
    kept.keep(version, target)
    assert same()
    (tmp_path / NAME).unlink()
    assert same()
    assert options.records is not None
    assert options.records.same(UpscaleJob(source, target)) is False
