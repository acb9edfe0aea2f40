"""What only a process of its own can show: standard streams, signals, and limits of the system."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.engine_info import METADATA_KEY
from drc_deploy.images.reading import decode_image, read_image
from drc_deploy.runtime.jobs.records import NAME as RECORDS
from tests.patience import PATIENCE_S
from tests.runtime.networks import nearest, write_nearest


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    write_nearest(tmp_path / "n.onnx")
    return tmp_path / "n.onnx"


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 256, shape, np.uint8)


def png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "drc_deploy", "upscale", *(str(argument) for argument in arguments)]


def upscale(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(command(*arguments), stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False, **options)


def test_an_image_goes_from_standard_input_to_standard_output(engine: Path) -> None:
    image = noise(7, 5, 3)
    result = upscale("-", "-o", "-", "--engine", engine, input=png(image), stdout=subprocess.PIPE)
    assert result.returncode == 0, result.stderr
    assert np.array_equal(decode_image(result.stdout, "output").pixels, nearest(image, 4))
    assert b"standard output  20x28" in result.stderr


def test_a_name_that_is_no_text_can_be_printed(engine: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.png"
    with open(name, "wb") as stream:
        stream.write(png(noise(7, 5)))
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}  # as it is outside of the C locale
    result = upscale(os.fsdecode(name), "--engine", engine, stdout=subprocess.PIPE, env=strict)
    assert (result.returncode, b"Traceback" in result.stderr) == (0, False)
    assert b"_x4.png  20x28" in result.stdout


def test_standard_streams_go_with_files(engine: Path, tmp_path: Path) -> None:
    image = noise(7, 5)
    (tmp_path / "in.png").write_bytes(png(image))
    to_file = upscale("-", "-o", tmp_path / "o.tif", "--engine", engine, input=png(image), stdout=subprocess.PIPE)
    assert b"o.tif  20x28" in to_file.stdout
    from_file = upscale(tmp_path / "in.png", "-o", "-", "--engine", engine, stdout=subprocess.PIPE)
    assert np.array_equal(read_image(tmp_path / "o.tif").pixels, nearest(image, 4))
    assert np.array_equal(decode_image(from_file.stdout, "output").pixels, nearest(image, 4))


@pytest.mark.parametrize("source", ["a file", "a pipe", "-"])
def test_reading_keeps_within_the_memory_that_is_allowed_wherever_the_image_comes_from(
    source: str, engine: Path, tmp_path: Path
) -> None:
    model = onnx.load(engine)
    known = json.loads(model.metadata_props[0].value) | {"cpu_bytes_per_pixel": 1000}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(known)})
    onnx.save(model, engine)
    content = png(np.zeros((5000, 6000, 3), np.uint8))
    name = source if source == "-" else tmp_path / source
    if source == "a file":
        (tmp_path / source).write_bytes(content)
    elif source == "a pipe":
        os.mkfifo(tmp_path / source)
        threading.Thread(target=(tmp_path / source).write_bytes, args=(content,)).start()
    result = upscale(name, "--engine", engine, "--max-memory", "450MiB", "-o", tmp_path / "o.png", input=content)
    assert result.returncode == 1
    assert re.search(rb"reading \S+.* needs \d+ MiB, more than the 450 MiB allowed", result.stderr)
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize(
    ("content", "message"), [(b"", b"standard input is empty"), (b"text", b"standard input is not an image")]
)
def test_bad_input_leaves_standard_output_empty(engine: Path, content: bytes, message: bytes) -> None:
    result = upscale("-", "-o", "-", "--engine", engine, input=content, stdout=subprocess.PIPE)
    assert (result.returncode, result.stdout) == (1, b"")
    assert message in result.stderr


def test_json_does_not_mix_with_an_image(engine: Path) -> None:
    result = upscale("-", "-o", "-", "--json", "--engine", engine, input=png(noise(4, 4)), stdout=subprocess.PIPE)
    assert (result.returncode, result.stdout) == (2, b"")


@pytest.mark.parametrize(
    ("stream", "message"), [("stdin", b"input is a terminal"), ("stdout", b"output is a terminal")]
)
def test_a_terminal_neither_gives_nor_takes_an_image(engine: Path, stream: str, message: bytes) -> None:
    here, there = pty.openpty()
    try:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, stream: there}
        result = upscale("-", "-o", "-", "--engine", engine, **streams)
    finally:
        os.close(here)
        os.close(there)
    assert result.returncode == 2
    assert f"standard {stream.removeprefix('std')}put is a terminal".encode() in result.stderr


@pytest.mark.parametrize(("redirection", "name"), [("<&-", "input"), (">&-", "output")])
def test_a_closed_stream_neither_gives_nor_takes_an_image(engine: Path, redirection: str, name: str) -> None:
    closed = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command("-", "-o", "-", "--engine", engine)]
    result = subprocess.run(closed, capture_output=True, input=png(noise(4, 4)), timeout=PATIENCE_S, check=False)
    assert result.returncode == 2
    assert f"standard {name} is closed".encode() in result.stderr


def test_an_image_is_upscaled_where_the_system_reports_nothing(engine: Path, tmp_path: Path) -> None:
    image = noise(7, 5)
    (tmp_path / "in.png").write_bytes(png(image))
    silent = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    words = command(tmp_path / "in.png", "-o", tmp_path / "o.png", "--engine", engine)
    assert subprocess.run(silent + words, timeout=PATIENCE_S, check=False).returncode == 0
    assert np.array_equal(read_image(tmp_path / "o.png").pixels, nearest(image, 4))


def test_a_full_disk_behind_standard_output_is_one_sentence(engine: Path) -> None:
    with open("/dev/full", "wb") as full:
        result = upscale("-", "-o", "-", "--engine", engine, input=png(noise(40, 40, 3)), stdout=full)
    assert result.returncode == 1
    assert b"Error: cannot write to standard output: No space left on device.\n" in result.stderr
    assert b"Exception" not in result.stderr  # of Python, trying once more as it leaves


def test_a_reader_that_leaves_is_no_fault(engine: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = upscale("-", "-o", "-", "--engine", engine, input=png(noise(40, 40, 3)), stdout=writer)
    finally:
        os.close(writer)
    assert result.returncode == 1
    assert b"Error" not in result.stderr


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_a_file_that_may_not_grow_is_reported_and_removed(engine: Path, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "in.png").write_bytes(png(noise(300, 100, 3)))
    target = tmp_path / "out" / f"o.{suffix}"
    limited = ["sh", "-c", 'ulimit -f 200 && exec "$@"', "sh"]  # blocks of 512 bytes: 100 kB
    words = command(tmp_path / "in.png", "-o", target, "--tile", "50", "--engine", engine)
    result = subprocess.run(limited + words, capture_output=True, timeout=PATIENCE_S, check=False)
    assert result.returncode == 1
    assert b"File too large" in result.stderr
    assert b"Traceback" not in result.stderr
    assert list(target.parent.iterdir()) == []


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Eight images that take a while each."""
    (tmp_path / "album").mkdir()
    for number in range(8):
        (tmp_path / "album" / f"{number}.png").write_bytes(png(noise(700, 700, 3)))
    return tmp_path / "album"


def stopped_by(number: int, album: Path, engine: Path) -> "subprocess.Popen[bytes]":
    """Run until the first result is there, then stop it by a signal."""
    process = subprocess.Popen(command(album, "--engine", engine, "--threads", "1"), stderr=subprocess.PIPE)
    results = album.with_name("album_x4")
    deadline = time.monotonic() + PATIENCE_S
    while not list(results.glob("[0-9].png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    process.wait(60)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_leaves_whole_files_only_and_the_rest_can_follow(
    engine: Path, album: Path, number: int, code: int
) -> None:
    process = stopped_by(number, album, engine)
    assert process.stderr is not None
    assert (process.returncode, b"Traceback" in process.stderr.read()) == (code, False)
    process.stderr.close()
    results = sorted({path.name for path in album.with_name("album_x4").iterdir()} - {RECORDS})
    assert 1 <= len(results) < 8
    assert results == [f"{index}.png" for index in range(len(results))]
    for name in results:
        assert read_image(album.with_name("album_x4") / name).pixels.shape == (2800, 2800, 3)


def test_a_killed_run_goes_on_where_it_was(engine: Path, album: Path) -> None:
    process = stopped_by(signal.SIGKILL, album, engine)
    assert process.stderr is not None
    process.stderr.close()
    finished = {path: path.stat().st_mtime_ns for path in album.with_name("album_x4").glob("[0-9].png")}
    assert 1 <= len(finished) < 8
    result = upscale(album, "--engine", engine, "--skip-existing", stdout=subprocess.PIPE)
    assert result.returncode == 0
    assert f"{len(finished)} of 8 skipped".encode() in result.stdout
    assert all(path.stat().st_mtime_ns == before for path, before in finished.items())
    assert len(list(album.with_name("album_x4").glob("[0-9].png"))) == 8


INTERRUPTED = """
import os, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
from drc_deploy.cli.main import main

owner, name, count = {"start": threading.Thread, "submit": ThreadPoolExecutor}[sys.argv[1]], sys.argv[1], 0
original = getattr(owner, name)

def interrupted(self, *arguments):
    global count
    result = original(self, *arguments)
    count += "ThreadPoolExecutor" in getattr(self, "name", "ThreadPoolExecutor")
    if count == int(sys.argv[2]):
        count += 1
        os.kill(os.getpid(), signal.SIGINT)
    return result

setattr(owner, name, interrupted)
main(sys.argv[3:])
"""


@pytest.mark.parametrize(
    ("where", "count"), [*(("start", n) for n in range(1, 5)), *(("submit", n) for n in range(1, 7))]
)
def test_ctrl_c_ends_it_while_a_thread_starts_or_is_handed_its_job(
    where: str, count: int, engine: Path, tmp_path: Path
) -> None:
    """Reader, writer and two that compute."""
    Image.fromarray(noise(40, 50)).save(tmp_path / "in.png")
    arguments = ["upscale", tmp_path / "in.png", "--engine", engine, "--tile", "16", "--threads", "2", "-o", "out.png"]
    script = [sys.executable, "-c", INTERRUPTED, where, str(count), *map(str, arguments)]
    result = subprocess.run(script, stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False, cwd=tmp_path)
    assert (result.returncode, b"Traceback" in result.stderr) == (130, False), result.stderr
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
