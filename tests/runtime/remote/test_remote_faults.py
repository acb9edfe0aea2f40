"""What cannot be meant or reached, servers that fail, and commands that end early: two sentences, and nothing left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.commands import Finished
from tests.patience import PATIENCE_S, ended
from tests.runtime.remote import servers
from tests.runtime.remote.commands import (
    IMAGES,
    MAIN,
    STOPPED,
    expected,
    fsspec,
    noise,
    refused,
    results,
    upscale,
    write_clip,
)

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
    work: Path, s3: servers.S3, bucket: str, number: signal.Signals
) -> None:
    Image.fromarray(noise(0, 700)).save(work / "large.bmp")
    command = start(work, s3, "large.bmp", "-o", f"{bucket}/out.bmp")
    with s3.puts_held(), ended(command) as running:
        assert s3.putting.wait(PATIENCE_S)
        running.send_signal(number)
        _, err = running.communicate(timeout=PATIENCE_S)
    assert err.split("\n", 1)[1].strip() == ("" if number == signal.SIGKILL else STOPPED)
    assert running.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert set(results(bucket)) == {f"in/{name}" for name in IMAGES}
    left = list((work / "temporary").iterdir())
    assert len(left) == (number == signal.SIGKILL)
    assert upscale(work, f"{bucket}/in/a.png", "-o", "next.png").returncode == 0  # looks for what is left


def test_a_fetch_that_is_stopped_leaves_nothing(work: Path, s3: servers.S3) -> None:
    with (
        servers.web_server({"/a.png": servers.trickling}) as (address, asked),
        ended(start(work, s3, f"{address}/a.png", "-o", "out.png")) as running,
    ):
        while not asked["/a.png"]:
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 143
    assert err.strip() == STOPPED
    assert list((work / "temporary").iterdir()) == []
    assert not (work / "out.png").exists()


def test_a_video_from_elsewhere_that_is_stopped_leaves_nothing(work: Path, s3: servers.S3) -> None:
    write_clip(work / "clip.mp4", 600)
    clip = servers.answer((work / "clip.mp4").read_bytes())
    with (
        servers.web_server({"/clip.mp4": clip}) as (address, _),
        ended(start(work, s3, f"{address}/clip.mp4", "-o", "out.mp4")) as running,
    ):
        while len(list(work.rglob("*.segments/0*"))) < 2:  # one is finished
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 143
    assert list((work / "temporary").iterdir()) == []
    assert {path.name for path in work.iterdir()} == {"clip.mp4", "in", "n.onnx", "temporary"}
