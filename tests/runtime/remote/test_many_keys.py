"""What is asked of storage about folders of very many files."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from drc_deploy.runtime.jobs.plan import plan_jobs
from drc_deploy.runtime.jobs.records import Records
from drc_deploy.runtime.jobs.run import Outcome, RunOptions
from drc_deploy.runtime.remote.run import run_anywhere
from drc_deploy.runtime.remote.url import Url
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.options import VideoOptions
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.remote.commands import fsspec

if TYPE_CHECKING:
    from tests.runtime.remote.servers import S3


class Counted:
    """Counts what storage is asked, and the names that it lists."""

    def __init__(self, s3: "S3", patch: pytest.MonkeyPatch) -> None:
        self.requests = self.names = 0
        self._moto = s3._moto
        patch.setattr(s3, "_moto", self._answer)

    def _answer(self, environ: Any, start: Any) -> Iterable[bytes]:
        body = b"".join(self._moto(environ, start))
        self.requests += 1
        self.names += body.count(b"<Key>")
        return [body]


def test_whether_a_name_is_that_of_a_folder_is_seen_without_a_list_of_it(
    work: Path, bucket: str, s3: "S3", monkeypatch: pytest.MonkeyPatch
) -> None:
    from drc_deploy.runtime.remote.storage import is_folder

    system, name = fsspec.filesystem("s3"), bucket.removeprefix("s3://")
    for number in range(20):
        system.pipe_file(f"{bucket}/many/{number}.png", b"x")
    counted = Counted(s3, monkeypatch)
    found = {below: is_folder(Url("s3", f"{name}/{below}")) for below in ("many", "man", "many/1.png", "many/none")}
    assert found == {"many": True, "man": False, "many/1.png": False, "many/none": False}
    assert is_folder(Url("s3", name))
    assert not is_folder(Url("s3", f"{name}-none"))
    assert counted.names <= 1


@pytest.mark.parametrize("there", [False, True])
def test_what_storage_is_asked_for_each_file_is_the_same_however_many_there_are(
    work: Path, bucket: str, s3: "S3", monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    image = (work / "in/a.png").read_bytes()
    system = fsspec.filesystem("s3")

    def upscale(count: int) -> Outcome:
        jobs = plan_jobs([f"{bucket}/{count}"], f"{bucket}/out{count}", "x2")
        options = RunOptions(skip_existing=True, records=Records({}))
        return run_anywhere(Upscaler(FakeBackend(fake_info())), jobs, options, {}, VideoOptions())

    def asked(count: int) -> tuple[int, int]:
        for number in range(count):
            system.pipe_file(f"{bucket}/{count}/{number}.png", image)
        if there:
            upscale(count)
        with monkeypatch.context() as patch:
            counted = Counted(s3, patch)
            outcome = upscale(count)
        assert len(outcome.skipped if there else outcome.finished) == count
        return counted.requests, counted.names

    few, more, most = asked(2), asked(6), asked(14)
    assert [a - b for a, b in zip(most, more, strict=True)] == [2 * (a - b) for a, b in zip(more, few, strict=True)]


def test_what_is_a_file_and_a_folder_too_counts_as_a_folder(work: Path, bucket: str) -> None:
    from drc_deploy.runtime.remote.storage import is_folder

    system = fsspec.filesystem("s3")
    for below in ("both", "both/a.png"):
        system.pipe_file(f"{bucket}/{below}", b"x")
    assert is_folder(Url("s3", f"{bucket.removeprefix('s3://')}/both"))


@pytest.mark.parametrize("count", [1, 4, 5])
def test_records_that_come_some_at_a_time_are_all_known(
    memory: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    from drc_deploy.runtime.remote import storage

    monkeypatch.setattr(storage, "_SMALL_AT_ONCE", 2)
    targets = [Url("memory", f"out/{number}.png") for number in range(count)]
    for target in targets:
        memory.pipe_file(target.full, b"result")
        Records({}).keep_there((1, 2), target)
    records = Records({})
    assert [records.made(target, (1, 2), records.result(target)) for target in targets] == [True] * count
    assert [records.made(target, (1, 3), records.result(target)) for target in targets] == [False] * count
