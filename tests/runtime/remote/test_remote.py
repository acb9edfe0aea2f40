"""Sources and targets on storage elsewhere, by the command that a user types.

Results are compared with those that the same command makes of the same files on a disk.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.commands import drc
from tests.runtime.remote import servers
from tests.runtime.remote.commands import expected, fsspec, noise, refused, results, upscale, write_clip

# what goes where


def test_a_folder_of_a_bucket_becomes_another_with_the_bytes_of_one_on_a_disk(work: Path, bucket: str) -> None:
    done = upscale(work, f"{bucket}/in", "-o", f"{bucket}/out", "--json")
    assert done.returncode == 0
    assert results(f"{bucket}/out") == expected(work)
    names = [(item["input"], item["output"]) for item in json.loads(done.stdout)["files"]]
    assert names[1] == (f"{bucket}/in/b.jpg", f"{bucket}/out/b.png")
    assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("pattern", "made"),
    [
        ("in/*.png", ["a.png"]),
        ("in/**/*.png", ["a.png", "sub/c.png"]),
        ("i*/", ["in/a.png", "in/b.png", "in/sub/c.png"]),
        ("in/[ab].*", ["a.png", "b.png"]),
    ],
)
def test_a_pattern_takes_what_it_matches(work: Path, bucket: str, pattern: str, made: list[str]) -> None:
    assert upscale(work, f"{bucket}/{pattern}", "-o", "out").returncode == 0
    assert sorted(path.relative_to(work / "out").as_posix() for path in (work / "out").rglob("*.png")) == made


def test_results_lie_next_to_their_sources_where_no_place_is_named(work: Path, bucket: str) -> None:
    assert upscale(work, f"{bucket}/in/a.png", f"{bucket}/in/sub").returncode == 0
    made = expected(work)
    assert results(f"{bucket}/in")["a_x4.png"] == made["a.png"]
    assert results(f"{bucket}/in/sub_x4") == {"c.png": made["sub/c.png"]}


def test_files_go_from_a_disk_to_a_bucket_and_back(work: Path, bucket: str) -> None:
    made = expected(work)
    assert upscale(work, "in", "-o", f"{bucket}/new/").returncode == 0
    assert results(f"{bucket}/new") == made
    assert upscale(work, f"{bucket}/in/a.png", "in/b.jpg", "-o", "back").returncode == 0
    assert (work / "back/a_x4.png").read_bytes() == made["a.png"]
    assert (work / "back/b_x4.png").read_bytes() == made["b.png"]


def test_storage_without_whole_puts_gets_whole_files_too(work: Path, memory: Any) -> None:
    memory.put(f"{work}/in/", "/in/", recursive=True)
    assert upscale(work, "memory://in", "-o", "memory://out").returncode == 0
    assert results("memory://out") == expected(work)


def test_a_file_of_this_machine_is_read_and_written_as_a_path(work: Path) -> None:
    made = expected(work)
    assert upscale(work, f"file://{work}/in/*.png", "-o", f"file://{work}/out").returncode == 0
    assert (work / "out/a.png").read_bytes() == made["a.png"]


def test_an_animation_keeps_its_suffix_and_a_still_one_does_not(work: Path, bucket: str) -> None:
    frames = [Image.fromarray(noise(seed, 16)[:16]) for seed in (1, 2)]
    for suffix in ("gif", "webp"):
        (work / "still_x4.png").unlink(missing_ok=True)
        frames[0].save(work / f"moving.{suffix}", save_all=True, append_images=frames[1:], duration=50)
        frames[0].save(work / f"still.{suffix}")
        system = fsspec.filesystem("s3")
        for name in ("moving", "still"):
            system.put_file(work / f"{name}.{suffix}", f"{bucket}/{suffix}/{name}.{suffix}")
            assert upscale(work, f"{name}.{suffix}").returncode == 0
        assert upscale(work, f"{bucket}/{suffix}", "-o", f"{bucket}/out/{suffix}").returncode == 0
        assert results(f"{bucket}/out/{suffix}") == {
            f"moving.{suffix}": (work / f"moving_x4.{suffix}").read_bytes(),
            "still.png": (work / "still_x4.png").read_bytes(),
        }


def test_a_video_goes_through_a_bucket(work: Path, bucket: str) -> None:
    write_clip(work / "clip.mp4", 3)
    fsspec.filesystem("s3").put_file(work / "clip.mp4", f"{bucket}/clip.mp4")
    assert upscale(work, "clip.mp4").returncode == 0
    assert upscale(work, f"{bucket}/clip.mp4").returncode == 0
    assert results(bucket)["clip_x4.mp4"] == (work / "clip_x4.mp4").read_bytes()
    assert upscale(work, f"{bucket}/clip.mp4", "-o", "new/here.mp4", "--skip-existing").returncode == 0
    assert (work / "new/here.mp4").read_bytes() == (work / "clip_x4.mp4").read_bytes()
    again = upscale(work, f"{bucket}/clip.mp4", "-o", "new/here.mp4", "--skip-existing", "--json")
    assert len(json.loads(again.stdout)["skipped"]) == 1
    assert "exists already" in refused(work, f"{bucket}/clip.mp4", "-o", "new/here.mp4")
    assert "one image" in refused(work, f"{bucket}/in/a.png", "-o", "a.mp4")
    assert not (work / "a.mp4").exists()


# what is kept


def test_what_exists_stays_unless_it_may_be_written_over(work: Path, bucket: str) -> None:
    system = fsspec.filesystem("s3")
    system.pipe_file(f"{bucket}/out.png", b"mine")
    assert f"{bucket}/out.png exists already" in refused(work, f"{bucket}/in/a.png", "-o", f"{bucket}/out.png")
    assert system.cat_file(f"{bucket}/out.png") == b"mine"
    assert upscale(work, f"{bucket}/in/a.png", "-o", f"{bucket}/out.png", "--overwrite").returncode == 0
    assert system.cat_file(f"{bucket}/out.png") == expected(work)["a.png"]
    into_itself = (f"{bucket}/in/a.png", "-o", f"{bucket}/in/a.png", "--overwrite")
    assert "is the input itself" in refused(work, *into_itself)
    assert system.cat_file(f"{bucket}/in/a.png") == (work / "in/a.png").read_bytes()


@pytest.mark.parametrize("storage", ["s3", "memory"])
def test_a_key_that_appears_meanwhile_is_not_written_over(work: Path, bucket: str, memory: Any, storage: str) -> None:
    from drc_deploy.errors import OutputError
    from drc_deploy.runtime.remote.storage import put
    from drc_deploy.runtime.remote.url import Url

    name = f"{bucket}/x.png".removeprefix("s3://") if storage == "s3" else "x.png"
    system = fsspec.filesystem(storage)
    system.pipe_file(f"{storage}://{name}", b"theirs")
    with pytest.raises(OutputError, match="exists already"):
        put(work / "in/a.png", Url(storage, name), replace=False)
    assert system.cat_file(f"{storage}://{name}") == b"theirs"
    if storage == "memory":
        assert list(memory.store) == ["/x.png"]


@pytest.mark.parametrize("target", ["bucket", "memory", "disk"])
def test_what_is_finished_is_skipped_and_what_another_engine_made_is_done_again(
    work: Path, bucket: str, memory: Any, target: str
) -> None:
    out = {"bucket": f"{bucket}/out", "memory": "memory://out", "disk": "out"}[target]
    arguments = (f"{bucket}/in", "-o", out, "--skip-existing", "--json")
    time.sleep(1)  # S3 knows no times between seconds
    assert len(json.loads(upscale(work, *arguments).stdout)["files"]) == 3
    again = json.loads(upscale(work, *arguments).stdout)
    assert (len(again["skipped"]), again["files"]) == (3, [])
    smaller = json.loads(upscale(work, *arguments, "--scale", "2").stdout)
    assert (len(smaller["files"]), smaller["redone"]) == (3, 3)
    fsspec.filesystem("s3").put_file(work / "in/b.jpg", f"{bucket}/in/a.png")
    changed = json.loads(upscale(work, *arguments, "--scale", "2").stdout)
    assert [item["input"] for item in changed["files"]] == [f"{bucket}/in/a.png"]


def test_listings_that_know_parts_of_a_second_find_what_is_finished(
    work: Path, s3: servers.S3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "exact", True)
    arguments = ("-o", f"{bucket}/out", "--skip-existing", "--json")
    time.sleep(1)
    assert len(json.loads(upscale(work, f"{bucket}/in", *arguments).stdout)["files"]) == 3
    for sources in ([f"{bucket}/in"], [f"{bucket}/in/*.*"]):
        again = json.loads(upscale(work, *sources, *arguments).stdout)
        assert again["files"] == []
    changed = json.loads(upscale(work, f"{bucket}/in", *arguments, "--scale", "2").stdout)
    assert changed["redone"] == 3


def test_a_result_without_a_record_counts_by_its_time(work: Path, bucket: str) -> None:
    time.sleep(1)
    fsspec.filesystem("s3").pipe_file(f"{bucket}/out/a.png", b"of another program")
    done = json.loads(upscale(work, f"{bucket}/in", "-o", f"{bucket}/out", "--skip-existing", "--json").stdout)
    assert [item["input"] for item in done["skipped"]] == [f"{bucket}/in/a.png"]


def test_records_that_others_left_say_nothing_and_fill_no_memory(work: Path, bucket: str) -> None:
    system = fsspec.filesystem("s3")
    time.sleep(1)
    for name, content in (("a.png", b"["), ("b.png", b" " * 100_000), ("c/d.png", bytes(10))):
        system.pipe_file(f"{bucket}/out/.drc-deploy/{name}", content)
    arguments = (f"{bucket}/in/*.*", "-o", f"{bucket}/out", "--skip-existing", "--json")
    assert len(json.loads(upscale(work, *arguments).stdout)["files"]) == 2
    assert len(json.loads(upscale(work, *arguments).stdout)["skipped"]) == 2


def test_what_exists_on_a_disk_is_seen_before_a_fetch(work: Path) -> None:
    (work / "out.png").write_bytes(b"mine")
    with servers.web_server({"/a.png": servers.answer(b"")}) as (address, asked):
        assert "out.png exists already" in refused(work, f"{address}/a.png", "-o", "out.png")
        assert not asked["/a.png"]
    assert (work / "out.png").read_bytes() == b"mine"


def test_what_others_put_where_temporary_files_are_is_left_alone(work: Path, memory: Any) -> None:
    memory.put_file(work / "in/a.png", "/a.png")
    (work / "precious").mkdir()
    (work / "precious/x").touch()
    os.mkfifo(work / "temporary/drc-deploy-pipe")
    (work / "temporary/drc-deploy-link").symlink_to(work / "precious")
    assert drc("upscale", "memory://a.png", "-o", "x.png", "--engine", "n.onnx", cwd=work).returncode == 0
    assert len(list((work / "temporary").iterdir())) == 2
    assert (work / "precious/x").exists()


# names


def test_all_keys_stay_apart(work: Path, bucket: str) -> None:
    system = fsspec.filesystem("s3")
    for seed, name in enumerate(
        ("A.png", "a.png", "a.jpg", "b.png", "B.png", "a b+%41.png", "ü.png", "*.png", "[1].png")
    ):
        Image.fromarray(noise(seed)).save(work / f"{seed}{Path(name).suffix}")
        system.put_file(work / f"{seed}{Path(name).suffix}", f"{bucket}/k/{name}")
    assert upscale(work, f"{bucket}/k", "-o", f"{bucket}/out").returncode == 0
    assert upscale(work, f"{bucket}/k", "-o", "out").returncode == 0
    names = {"A.png", "b.png", "B.png", "a_png.png", "a_jpg.png", "a b+%41.png", "ü.png", "*.png", "[1].png"}
    there = results(f"{bucket}/out")
    assert there.keys() == names
    assert len(set(there.values())) == len(names)
    assert {path.name: path.read_bytes() for path in (work / "out").glob("*.png")} == there
    assert upscale(work, f"{bucket}/k/*.png", "-o", f"{bucket}/one.png").returncode == 0
    assert results(bucket)["one.png"] == there["*.png"]


def test_no_key_leads_out_of_the_folder_of_results(work: Path, bucket: str) -> None:
    system = fsspec.filesystem("s3")
    for key in ("k//etc/a.png", "k/../../up.png", "k/x/../b.png", "k/.hidden/c.png", "k/@eaDir/d.png"):
        system.put_file(work / "in/a.png", f"{bucket}/{key}")
    before = set(work.rglob("*.png"))
    assert upscale(work, f"{bucket}/k", "-o", "out").returncode == 0
    assert set(work.rglob("*.png")) - before == {work / "out/etc/a.png"}


@pytest.mark.parametrize("pattern", ["k/.*/**", "k/**/.*/**", "k/*", "k/.*/*/up.png", "k/.[.]/**", "k/.?/*"])
def test_no_pattern_leads_out_of_the_folder_of_results(work: Path, bucket: str, pattern: str) -> None:
    system = fsspec.filesystem("s3")
    for key in ("k/../../up.png", "k/.x/../../../b.png", "k/../c.png", "k/./d.png", "k/.x/e.png", "k/f.png"):
        system.put_file(work / "in/a.png", f"{bucket}/{key}")
    before = set(work.rglob("*.png"))
    upscale(work, f"{bucket}/{pattern}", "-o", "results/out")
    made = set(work.rglob("*.png")) - before
    assert made <= {work / "results/out" / name for name in (".x/e.png", "e.png", "f.png")}


def test_keys_that_lead_out_of_their_folder_are_named(
    work: Path, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    system = fsspec.filesystem("s3")
    for key in ("k/../up.png", "k/x/./b.png", "k/f.png"):
        system.put_file(work / "in/a.png", f"{bucket}/{key}")
    assert upscale(work, f"{bucket}/k", "-o", "out").returncode == 0
    assert f"{bucket}/k: 2 files are left out: `.` or `..` is a part of their names." in caplog.text
    assert [path.name for path in (work / "out").glob("*.png")] == ["f.png"]


def test_two_keys_with_one_result_are_refused(work: Path, bucket: str) -> None:
    system = fsspec.filesystem("s3")
    for key in ("k//a.png", "k/a.png"):
        system.put_file(work / "in/a.png", f"{bucket}/{key}")
    assert "would both become" in refused(work, f"{bucket}/k", "-o", f"{bucket}/out")


def test_keys_that_a_disk_cannot_hold_apart_are_refused(
    work: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drc_deploy.runtime.jobs import plan

    system = fsspec.filesystem("s3")
    for key in ("k/a.png", "k/A.png"):
        system.put_file(work / "in/a.png", f"{bucket}/{key}")
    monkeypatch.setattr(plan, "_folds_case", lambda _: True)  # as disks of other systems
    assert "differ in case only" in refused(work, f"{bucket}/k", "-o", "out")
    assert not (work / "out").exists()
    assert upscale(work, f"{bucket}/k", "-o", f"{bucket}/out").returncode == 0
    assert results(f"{bucket}/out").keys() == {"a.png", "A.png"}


# streams


def test_a_url_goes_to_standard_output_and_standard_input_to_a_bucket(work: Path, s3: servers.S3, bucket: str) -> None:
    def piped(*arguments: str, given: bytes = b"") -> bytes:
        command = [sys.executable, "-m", "drc_deploy", "upscale", *arguments, "--engine", "n.onnx"]
        environment = {**os.environ, **s3.environment()}
        return subprocess.run(command, cwd=work, env=environment, input=given, check=True, capture_output=True).stdout

    made = expected(work)["a.png"]
    assert piped(f"{bucket}/in/a.png", "-o", "-") == made
    piped("-", "-o", f"{bucket}/b.png", given=(work / "in/a.png").read_bytes())
    assert results(bucket)["b.png"] == made
