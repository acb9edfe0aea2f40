import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drc_deploy.files import version_of
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.records import NAME, Records
from drc_deploy.runtime.jobs.run import Outcome, RunOptions, run_jobs
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import FakeBackend, fake_info


@pytest.fixture
def jobs(tmp_path: Path) -> list[UpscaleJob]:
    """Three images and where they go."""
    (tmp_path / "in").mkdir()
    made = [UpscaleJob(tmp_path / "in" / f"{name}.png", tmp_path / "out" / f"{name}.png") for name in "abc"]
    for number, job in enumerate(made):
        Image.fromarray(np.full((5, 5, 3), number, np.uint8)).save(str(job.source))
    return made


def run(jobs: list[UpscaleJob], engine: str = "one") -> Outcome:
    options = RunOptions(skip_existing=True, records=Records({"engine": engine}))
    outcome = run_jobs(Upscaler(FakeBackend(fake_info())), jobs, options)
    assert not outcome.failed
    return outcome


def counts(outcome: Outcome) -> tuple[int, int, int]:
    """Return how many were finished, how many of them again, and how many skipped."""
    return len(outcome.finished), outcome.redone, len(outcome.skipped)


def test_results_of_other_engines_are_done_again_and_then_known(jobs: list[UpscaleJob]) -> None:
    assert counts(run(jobs[:2])) == (2, 0, 0)
    assert counts(run(jobs)) == (1, 0, 2)
    assert counts(run(jobs, "two")) == (3, 3, 0)
    assert counts(run(jobs, "two")) == (0, 0, 3)
    assert counts(run(jobs[:1])) == (1, 1, 0)
    assert counts(run(jobs, "two")) == (1, 1, 2)


def test_an_image_that_an_older_file_replaced_is_done_again(jobs: list[UpscaleJob], tmp_path: Path) -> None:
    run(jobs)
    older = tmp_path / "older.png"
    Image.fromarray(np.full((6, 6, 3), 9, np.uint8)).save(older)
    os.utime(older, (10**9, 10**9))
    older.replace(str(jobs[1].source))
    assert counts(run(jobs)) == (1, 1, 2)


def test_images_with_times_in_the_future_are_done_once(jobs: list[UpscaleJob]) -> None:
    for job in jobs:
        os.utime(str(job.source), (4 * 10**9, 4 * 10**9))
    assert counts(run(jobs)) == (3, 0, 0)
    assert counts(run(jobs)) == (0, 0, 3)
    Image.fromarray(np.full((6, 6, 3), 9, np.uint8)).save(str(jobs[1].source))
    os.utime(str(jobs[1].source), (4 * 10**9, 4 * 10**9 + 1))
    assert counts(run(jobs)) == (1, 0, 2)


def test_a_result_that_nothing_is_known_of_counts_by_its_time(jobs: list[UpscaleJob], tmp_path: Path) -> None:
    run(jobs)
    Image.fromarray(np.zeros((7, 7, 3), np.uint8)).save(str(jobs[0].target))  # another program
    assert counts(run(jobs, "two")) == (2, 2, 1)
    (tmp_path / "out" / NAME).unlink()
    assert counts(run(jobs, "three")) == (0, 0, 3)


def test_folders_can_be_moved(jobs: list[UpscaleJob], tmp_path: Path) -> None:
    run(jobs)
    shutil.move(tmp_path / "in", tmp_path / "new_in")
    shutil.move(tmp_path / "out", tmp_path / "new_out")
    moved = [
        replace(job, source=tmp_path / "new_in" / f"{name}.png", target=tmp_path / "new_out" / f"{name}.png")
        for name, job in zip("abc", jobs, strict=True)
    ]
    assert counts(run(moved)) == (0, 0, 3)
    assert counts(run(moved, "two")) == (3, 3, 0)


@pytest.mark.parametrize(
    "damage",
    [b"\xff\xfe\x00", b"[" * 10**6, b"null", b'{"name": 5}', b'{"name": "a.png", "made_by": "x", "source": [1]', b""],
    ids=["no text", "deep", "null", "wrong", "short", "empty"],
)
def test_damage_costs_its_own_line(jobs: list[UpscaleJob], tmp_path: Path, damage: bytes) -> None:
    run(jobs)
    path = tmp_path / "out" / NAME
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([damage, *lines[1:], damage, b""]))
    assert counts(run(jobs, "two")) == (2, 2, 1)
    assert counts(run(jobs, "two")) == (0, 0, 3)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    path.with_name("mine.txt").write_text("mine\n")
    path.symlink_to("mine.txt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize("make", [make_folder, make_pipe, make_link])
def test_what_lies_in_the_way_of_the_records_is_left_alone(
    jobs: list[UpscaleJob], tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "out" / NAME)
    assert counts(run(jobs)) == (3, 0, 0)
    assert counts(run(jobs, "two")) == (0, 0, 3)
    if make is make_link:
        assert (tmp_path / "out" / "mine.txt").read_text() == "mine\n"


def test_lines_that_are_added_at_once_are_all_whole(tmp_path: Path) -> None:
    jobs = [UpscaleJob(tmp_path / "source", tmp_path / f"{number:04d}") for number in range(800)]
    for path in (tmp_path / "source", *(job.target for job in jobs)):
        Path(str(path)).touch()
    version = version_of(tmp_path / "source")
    assert version is not None

    def keep(first: int) -> None:
        records = Records({"engine": "one"})
        for job in jobs[first::8]:
            records.keep(version, Path(str(job.target)))

    threads = [threading.Thread(target=keep, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other = Records({"engine": "two"})
    assert all(other.same(job) is False for job in jobs)
    assert all(Records({"engine": "one"}).same(job) for job in jobs[:5])
