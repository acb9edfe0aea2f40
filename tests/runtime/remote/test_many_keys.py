"""What is asked of storage about folders of very many files."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from drc_deploy.runtime.jobs.records import Records
from drc_deploy.runtime.remote.url import Url
from tests.runtime.remote.commands import fsspec

if TYPE_CHECKING:
    from tests.runtime.remote.servers import S3


def test_whether_a_name_is_that_of_a_folder_is_seen_without_a_list_of_it(
    work: Path, bucket: str, s3: "S3", monkeypatch: pytest.MonkeyPatch
) -> None:
    from drc_deploy.runtime.remote.storage import is_folder

    keys, moto = 0, s3._moto

    def counted(environ: Any, start: Any) -> Iterable[bytes]:
        nonlocal keys
        body = b"".join(moto(environ, start))
        keys += body.count(b"<Key>")
        return [body]

    system, name = fsspec.filesystem("s3"), bucket.removeprefix("s3://")
    for number in range(20):
        system.pipe_file(f"{bucket}/many/{number}.png", b"x")
    monkeypatch.setattr(s3, "_moto", counted)
    found = {below: is_folder(Url("s3", f"{name}/{below}")) for below in ("many", "man", "many/1.png", "many/none")}
    assert found == {"many": True, "man": False, "many/1.png": False, "many/none": False}
    assert is_folder(Url("s3", name))
    assert not is_folder(Url("s3", f"{name}-none"))
    assert keys <= 1


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
