"""Sources and targets on storage elsewhere, by the command that a user types.

Results are compared with those that the same command makes of the same files on a disk.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.commands import Finished, drc
from tests.runtime.networks import write_nearest
from tests.runtime.remote import servers

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("s3fs")
pytest.importorskip("moto")

IMAGES = ("a.png", "b.jpg", "sub/c.png")
MAIN = "import sys; from drc_deploy.cli.main import main; main(sys.argv[1:])"
STOPPED = "Stopped. Run the same command again to continue; `upscale` of several files with --skip-existing."


@pytest.fixture(scope="module")
def s3() -> Iterator[servers.S3]:
    with servers.s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def bucket(s3: servers.S3, work: Path) -> str:
    """A bucket of its own, with the images in ``in/``."""
    name = f"bucket-{os.urandom(4).hex()}"
    system = fsspec.filesystem("s3")
    system.mkdir(name)
    system.put(f"{work}/in/", f"{name}/in/", recursive=True)
    return f"s3://{name}"


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an engine, and images in ``in/``; temporary files go to another."""
    write_nearest(tmp_path / "n.onnx")
    for number, name in enumerate(IMAGES):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(number)).save(path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


def noise(seed: int, side: int = 24) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (side + seed, side, 3), np.uint8)


def upscale(work: Path, *arguments: object) -> Finished:
    done = drc("upscale", *arguments, "--engine", "n.onnx", "--threads", "1", cwd=work)
    assert "Traceback" not in done.stderr
    assert "fault of drc-deploy" not in done.stderr
    assert list((work / "temporary").iterdir()) == []
    return done


def refused(work: Path, *arguments: object) -> str:
    """Return the two sentences of an error."""
    done = upscale(work, *arguments)
    assert done.returncode in (1, 2)
    lines = done.stderr.strip().splitlines()
    assert lines[-2].startswith("Error: ")
    return "\n".join(lines[-2:])


def results(folder: str) -> dict[str, bytes]:
    """Return what lies below a folder of storage, without records."""
    system, path = fsspec.core.url_to_fs(folder)
    found = {name: system.cat_file(name) for name in system.find(path)}
    start = len(system._strip_protocol(folder)) + 1
    return {name[start:]: content for name, content in found.items() if ".drc-deploy" not in name}


def expected(work: Path) -> dict[str, bytes]:
    """Return what is made of the images on the disk."""
    shutil.rmtree(work / "alone", ignore_errors=True)
    assert upscale(work, "in", "-o", "alone").returncode == 0
    return {name: (work / "alone" / name).read_bytes() for name in ("a.png", "b.png", "sub/c.png")}


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


def write_clip(path: Path, frames: int) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for seed in range(frames):
            frame = av.VideoFrame.from_ndarray(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


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


# what is refused


def test_what_is_not_there_or_not_allowed_is_a_sentence(work: Path, bucket: str) -> None:
    assert "it is not there" in refused(work, f"{bucket}/none.png", "-o", "x.png")
    assert "no image or video matches" in refused(work, f"{bucket}/*.tiff", "-o", "x")
    assert "it is not there" in refused(work, "s3://no-such-bucket/a.png", "-o", "x.png")
    assert "its bucket or folder is not there" in refused(work, "in/a.png", "-o", "s3://no-such-bucket/a.png")
    assert "no storage that is known" in refused(work, "nowhere://x/a.png", "-o", "x.png")
    assert "HTTP only reads" in refused(work, "in/a.png", "-o", "https://host/a.png")
    assert "HTTP only reads" in refused(work, "https://host/a.png")
    assert "HTTP lists no folders" in refused(work, "https://host/folder/", "-o", "x")
    assert "no place next to" in refused(work, bucket)
    assert "a user or a password" in refused(work, "s3://key:s3cret@bucket/a.png", "-o", "x.png")
    assert "s3cret" not in refused(work, "in/a.png", "s3://key:s3cret@bucket/a.png")
    assert "exists" not in str(list(work.glob("x*")))


@pytest.mark.parametrize(
    "name",
    [
        *("github://o/r/a.png", "dir://x/a.png", "zip://a.zip/a.jpg", "tar://a.tar/a.png", "reference://x/a.png"),
        *("jupyter://127.0.0.1:1/a.png", "dbfs://x/a.png", "generic://x/a.png", "simplecache://x/a.png"),
    ],
)
def test_storage_that_a_url_does_not_suffice_for_is_refused(work: Path, name: str) -> None:
    assert "needs more than a URL" in refused(work, name, "-o", "x.png")
    assert "needs more than a URL" in refused(work, "in/a.png", "-o", name)


def test_storage_that_does_not_answer_is_a_sentence(work: Path) -> None:
    error = refused(work, "ftp://127.0.0.1:1/a.jpg", "-o", "x.png")
    assert error.startswith("Error: ftp://127.0.0.1:1/a.jpg cannot be opened: ")
    assert "refused" in error


def test_a_query_is_shown_nowhere(work: Path) -> None:
    assert "s3cret" not in refused(work, "az://c/a.png?sv=1&sig=s3cret", "-o", "x.png")
    assert "s3cret" not in refused(work, "in/a.png", "-o", "memory://c/a.png?sig=s3cret")


def test_a_temporary_folder_that_goes_away_fails_one_file_after_the_other(work: Path) -> None:
    def remove(handler: Any) -> None:
        for folder in (work / "temporary").iterdir():
            shutil.rmtree(folder)
        servers.answer(b"", status=404)(handler)

    with servers.web_server({f"/{name}.png": remove for name in "abc"}) as (address, asked):
        sources = [f"{address}/{name}.png" for name in "abc"]
        done = upscale(work, *sources, "-o", "out", "--json")
    failed = json.loads(done.stdout)["failed"]
    assert [item["input"] for item in failed] == sources
    assert [item["error"].partition(":")[0] for item in failed[1:]] == ["cannot write temporary files"] * 2
    assert set(asked) == {"/a.png"}


def test_of_several_only_the_missing_one_fails(work: Path, bucket: str) -> None:
    done = upscale(work, f"{bucket}/none.png", f"{bucket}/in/a.png", "-o", "out", "--json")
    assert done.returncode == 1
    assert [item["input"] for item in json.loads(done.stdout)["failed"]] == [f"{bucket}/none.png"]
    assert (work / "out/a_x4.png").exists()


def test_a_bucket_without_rights_is_a_sentence(work: Path, bucket: str) -> None:
    from moto.core import set_initial_no_auth_action_count

    @set_initial_no_auth_action_count(0)
    def errors() -> list[str]:
        read, written = (f"{bucket}/in/a.png", "-o", "x.png"), ("in/a.png", "-o", f"{bucket}/x.png")
        return [refused(work, *arguments) for arguments in (read, written, (f"{bucket}/*.png", "-o", "x"))]

    for error in errors():
        assert "from here" in error
        assert "credentials" in error


def test_errors_about_a_damaged_file_name_its_url(work: Path, bucket: str) -> None:
    fsspec.filesystem("s3").pipe_file(f"{bucket}/in/bad.png", b"no image")
    error = refused(work, f"{bucket}/in/bad.png", "-o", "x.png")
    assert f"{bucket}/in/bad.png is not an image" in error
    assert str(work) not in error


def ran(work: Path, code: str, *arguments: str) -> Finished:
    """Run a command in a process of its own, after or before some code."""
    command = [sys.executable, "-c", code, "upscale", *arguments, "--engine", "n.onnx", "--threads", "1"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("package", ["fsspec", "s3fs"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(work: Path, package: str) -> None:
    done = ran(work, f"import sys; sys.modules['{package}'] = None;" + MAIN, "s3://bucket/a.png", "-o", "x.png")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1] == "       Install it: pip install 'drc-deploy[remote]'."


def test_files_of_this_machine_need_no_package_of_storage(work: Path) -> None:
    loaded = "sorted({'fsspec', 's3fs', 'aiohttp'} & sys.modules.keys())"
    show = f"import atexit, sys; atexit.register(lambda: print({loaded}));"
    assert ran(work, show + MAIN, "in", f"file://{work}/in/a.png", "-o", "out").stdout.splitlines()[-1] == "[]"


# servers that fail


def test_what_fails_twice_is_tried_again(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from drc_deploy.runtime.remote import storage

    monkeypatch.setattr(storage, "_WAITS_S", (0.01, 0.02))
    image = (work / "in/a.png").read_bytes()
    busy, short = servers.answer(b"", status=503), servers.answer(image[:100], length=len(image))
    answers = {
        "/busy.png": servers.at_first(2, busy, servers.answer(image)),
        "/short.png": servers.at_first(2, short, servers.answer(image)),
        "/never.png": busy,
        "/always_short.png": short,
        "/secret.png": servers.answer(b"", status=403),
    }
    with servers.web_server(answers) as (address, asked):
        made = expected(work)["a.png"]
        for name in ("busy", "short"):
            assert upscale(work, f"{address}/{name}.png", "-o", f"{name}.png").returncode == 0
            assert (work / f"{name}.png").read_bytes() == made
        assert "answers 503" in refused(work, f"{address}/never.png", "-o", "x.png")
        assert "failed" in refused(work, f"{address}/always_short.png", "-o", "x.png")
        error = refused(work, f"{address}/secret.png?X-Amz-Signature=s3cret", "-o", "x.png")
        assert "s3cret" not in error
        assert "may not be read" in error
    assert asked["/never.png"] == 3
    assert asked["/secret.png"] == 1
    assert not (work / "x.png").exists()


def test_signatures_are_in_no_result_note_or_record(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    with servers.web_server({"/a.png": servers.answer((work / "in/a.png").read_bytes())}) as (address, _):
        arguments = (f"{address}/a.png?X-Amz-Signature=s3cret", "in/b.jpg", "-o", "out", "--width", "10", "--json")
        done = upscale(work, *arguments)
    assert done.returncode == 0
    assert f"{address}/a.png?... has" in caplog.text
    assert json.loads(done.stdout)["files"][1]["input"] == f"{address}/a.png?..."
    assert "s3cret" not in caplog.text + done.stdout + done.stderr + (work / "out/.drc-deploy.jsonl").read_text()


def test_a_web_server_gets_the_password_that_the_home_has_for_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = servers.answer((work / "in/a.png").read_bytes())
    monkeypatch.setenv("NETRC", str(work / "netrc"))
    (work / "netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    with servers.web_server({"/a.png": servers.for_those_with("Basic bWU6czNjcmV0", right)}) as (address, _):
        assert upscale(work, f"{address}/a.png", "-o", "out.png").returncode == 0
        (work / "netrc").write_text("")
        assert "may not be read" in refused(work, f"{address}/a.png", "-o", "x.png")


def test_bodies_end_at_a_limit(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from drc_deploy.runtime.remote import run

    monkeypatch.setattr(run, "_METADATA_BYTES", 1 << 20)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # which --max-pixels changes
    answers = {"/endless.png": servers.endless, "/huge.png": servers.answer(b"", length=1 << 50)}
    with servers.web_server(answers) as (address, asked):
        for name in ("endless", "huge"):
            error = refused(work, f"{address}/{name}.png", "-o", "x.png", "--max-pixels", 1000)
            assert "is longer than the 1 MiB" in error
    assert asked["/endless.png"] == asked["/huge.png"] == 1


def test_bodies_that_trickle_or_fall_silent_end(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from drc_deploy.runtime.remote import storage

    monkeypatch.setattr(storage, "_SILENCE_S", 0.3)
    monkeypatch.setattr(storage, "_WAITS_S", ())
    answers = {"/trickle.png": servers.trickling, "/silent.png": servers.silent}
    with servers.web_server(answers) as (address, _):
        for name in answers:
            assert "came for a minute" in refused(work, f"{address}{name}", "-o", "x.png")


def test_a_bucket_that_fails_for_a_while_is_asked_again(work: Path, s3: servers.S3, bucket: str) -> None:
    s3.failures = 2
    assert upscale(work, f"{bucket}/in/a.png", "-o", "out.png").returncode == 0


def test_a_put_that_arrived_without_its_answer_has_succeeded(work: Path, s3: servers.S3, bucket: str) -> None:
    s3.lost = 1
    assert upscale(work, f"{bucket}/in/a.png", "-o", f"{bucket}/out.png").returncode == 0
    assert s3.lost == 0
    assert results(bucket)["out.png"] == expected(work)["a.png"]


def test_a_key_of_the_same_length_is_not_taken_for_the_result(work: Path, bucket: str) -> None:
    from drc_deploy.errors import OutputError
    from drc_deploy.runtime.remote.storage import put
    from drc_deploy.runtime.remote.url import Url

    theirs = bytes((work / "in/a.png").stat().st_size)
    fsspec.filesystem("s3").pipe_file(f"{bucket}/x.png", theirs)
    with pytest.raises(OutputError, match="exists already"):
        put(work / "in/a.png", Url("s3", f"{bucket}/x.png".removeprefix("s3://")), replace=False)
    assert results(bucket)["x.png"] == theirs


def test_no_result_goes_into_a_folder_of_its_name(work: Path, memory: Any) -> None:
    memory.pipe_file("/out/b_x4.png/mine.txt", b"mine")
    error = refused(work, "in/b.jpg", "-o", "memory://out", "--overwrite")
    assert "memory://out/b_x4.png is a folder" in error
    assert list(memory.store) == ["/out/b_x4.png/mine.txt"]


def test_a_full_disk_is_seen_before_a_fetch(work: Path, bucket: str) -> None:
    done = ran(
        work,
        "from drc_deploy.runtime.remote import run; run._SPARE_BYTES = 1 << 60;" + MAIN,
        f"{bucket}/in/a.png",
        "-o",
        "x.png",
    )
    assert "is longer than the 0 MiB" in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) == 2


# what is left when a command ends early


def start(work: Path, s3: servers.S3, *arguments: object) -> "subprocess.Popen[str]":
    environment = {**os.environ, **s3.environment(), "TMPDIR": str(work / "temporary")}
    command = [sys.executable, "-m", "drc_deploy", "upscale", *map(str, arguments), "--engine", "n.onnx"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=work, env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_stopped_leaves_no_part_of_a_result(
    work: Path, s3: servers.S3, bucket: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(noise(0, 700)).save(work / "large.bmp")
    monkeypatch.setattr(s3, "slow", True)
    s3.putting.clear()
    running = start(work, s3, "large.bmp", "-o", f"{bucket}/out.bmp")
    assert s3.putting.wait(60)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert err.split("\n", 1)[1].strip() == ("" if number == signal.SIGKILL else STOPPED)
    assert running.returncode == (-number if number == signal.SIGKILL else 128 + number)
    time.sleep(1.5)
    assert set(results(bucket)) == {f"in/{name}" for name in IMAGES}
    left = list((work / "temporary").iterdir())
    assert len(left) == (number == signal.SIGKILL)
    monkeypatch.setattr(s3, "slow", False)
    assert upscale(work, f"{bucket}/in/a.png", "-o", "next.png").returncode == 0  # looks for what is left


def test_a_fetch_that_is_stopped_leaves_nothing(work: Path, s3: servers.S3) -> None:
    with servers.web_server({"/a.png": servers.trickling}) as (address, asked):
        running = start(work, s3, f"{address}/a.png", "-o", "out.png")
        while not asked["/a.png"]:
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 143
    assert err.strip() == STOPPED
    assert list((work / "temporary").iterdir()) == []
    assert not (work / "out.png").exists()


def test_a_video_from_elsewhere_that_is_stopped_leaves_nothing(work: Path, s3: servers.S3) -> None:
    write_clip(work / "clip.mp4", 600)
    with servers.web_server({"/clip.mp4": servers.answer((work / "clip.mp4").read_bytes())}) as (address, _):
        running = start(work, s3, f"{address}/clip.mp4", "-o", "out.mp4")
        while len(list(work.rglob("*.segments/0*"))) < 2:  # one is finished
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)
    assert running.returncode == 143
    assert list((work / "temporary").iterdir()) == []
    assert {path.name for path in work.iterdir()} == {"clip.mp4", "in", "n.onnx", "temporary"}


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
