"""``drc-deploy serve`` as a process."""

import io
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.runtime.networks import nearest, write_nearest

IMAGE = np.random.default_rng(0).integers(0, 256, (700, 600, 3), np.uint8)


@contextmanager
def serving(engine: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", str, str]]:
    """Start the command, and return its process, its address and what it said before."""
    command = [sys.executable, "-m", "drc_deploy", "serve", str(engine), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = ""
        try:
            while "Serving at" not in (line := process.stderr.readline()):
                assert line, said
                said += line
            yield process, line.split()[2], said
        finally:
            process.kill()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "quick.onnx"
    write_nearest(path)
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_what_is_under_way(number: signal.Signals, engine: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(IMAGE).save(stream, "PNG")
    with serving(engine) as (process, address, _):
        answers: list[httpx.Response] = []

        def ask() -> None:
            headers = {"X-Request-Id": "mine"}
            answers.append(httpx.post(f"{address}v1/upscale", headers=headers, content=stream.getvalue(), timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        while httpx.get(f"{address}v1/progress/mine").status_code == 404 and asking.is_alive():
            pass
        os.kill(process.pid, number)
        asking.join()
        assert process.wait(30) == 0
        assert process.stderr
        said = process.stderr.read()  # nothing, if it was finished before
        assert said in ("", "WARNING: Finishing 1 request. A second Ctrl-C ends at once.\n")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answers[0].content))), nearest(IMAGE, 4))


def test_who_is_still_served_at_the_end_gets_an_answer(engine: Path) -> None:
    with serving(engine, "--access-log") as (process, address, _):
        url = httpx.URL(address)
        with socket.create_connection((url.host, url.port or 0), timeout=30) as caller:
            caller.sendall(b"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\nContent-Length: 99\r\n\r\n")
            while httpx.get(f"{address}v1/progress/mine").status_code == 404:
                pass
            process.send_signal(signal.SIGINT)
            with suppress(httpx.TransportError):  # it takes no more connections
                while httpx.get(f"{address}healthz"):
                    pass
            process.send_signal(signal.SIGINT)
            answer = b"".join(iter(lambda: caller.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'{"error":"this service ends.","hint":"Ask again later."}' in answer
        assert process.wait(30) == 0
        assert process.stderr
        said = process.stderr.read()
        assert "POST /v1/upscale 503 " in said
        assert "Traceback" not in said


def run(*arguments: str) -> tuple[int, str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "drc_deploy", "serve", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_a_port_in_use_or_no_address_is_a_sentence(engine: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, said = run(str(engine), "--port", str(other.getsockname()[1]))
        assert (code, "cannot be listened at: Address already in use" in said) == (2, True)
    code, said = run(str(engine), "--host", "no.such.host.invalid")
    assert (code, "cannot be listened at" in said) == (2, True)


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff\xfe"])
def test_a_file_without_a_token_is_a_sentence(content: bytes, engine: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(content)
    code, said = run(str(engine), "--token-file", str(tmp_path / "token"))
    assert (code, "token" in said, "Traceback" in said) == (2, True, False)


def test_two_engines_of_one_name_are_refused(engine: Path, tmp_path: Path) -> None:
    write_nearest(tmp_path / "quick.onnx")
    code, said = run(str(engine), str(tmp_path / "quick.onnx"), "--port", "0")
    assert (code, "two engines are called quick" in said) == (1, True)


def test_an_address_that_others_reach_is_warned_of(engine: Path) -> None:
    with serving(engine, "--host", "0.0.0.0") as (_, _, said):
        assert "everyone there, for no --token-file" in said
    with serving(engine) as (_, _, said):
        assert "Warning" not in said


def test_a_line_for_each_request_is_printed_when_that_is_wanted(engine: Path) -> None:
    with serving(engine, "--access-log") as (process, address, _):
        assert process.stderr
        assert httpx.get(f"{address}healthz").status_code == 200
        assert process.stderr.readline().split()[1:-2] == ["127.0.0.1", "GET", "/healthz", "200"]
        assert httpx.post(f"{address}v1/upscale?format=png&model=none%0Aetwas", content=b"x").status_code == 404
        when, *line, seconds, unit = process.stderr.readline().split()
        assert line == ["127.0.0.1", "POST", "/v1/upscale?format=png&model=none%0Aetwas", "404"]
        assert abs(datetime.now(timezone.utc) - datetime.fromisoformat(when.replace("Z", "+00:00"))).seconds < 60
        assert (float(seconds) >= 0, unit) == (True, "s")
        httpx.get(f"{address}healthz", headers={"Upgrade": "h2c", "Connection": "Upgrade"})  # as of `curl --http2`
        assert process.stderr.readline().split()[1:-2] == ["127.0.0.1", "GET", "/healthz", "200"]
        httpx.get(f"{address}a%0Ab%1b[8m c", headers={b"X-Forwarded-For": b"me GET /mine 200 \x85\x1b[8m"})
        assert process.stderr.readline().split()[1:-2] == [
            "me%20GET%20/mine%20200%20%C2%85%1B[8m", "GET", "/a%0Ab%1b[8m%20c", "404"
        ]  # fmt: skip


def test_who_goes_before_the_answer_is_not_said_to_have_had_one(engine: Path) -> None:
    with serving(engine, "--access-log") as (process, address, _):
        url = httpx.URL(address)
        with socket.create_connection((url.host, url.port or 0)) as caller:
            caller.sendall(b"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nsome")
        assert process.stderr
        assert "POST /v1/upscale without an answer" in process.stderr.readline()
        assert "drc_deploy_requests_total{" not in httpx.get(f"{address}metrics").text


def test_who_goes_in_the_middle_of_an_answer_is_no_error(engine: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((900, 900), np.uint8)).save(stream, "PNG")
    with serving(engine, "--access-log") as (process, address, _):
        with httpx.stream("POST", f"{address}v1/upscale?format=bmp", content=stream.getvalue()) as answer:
            assert next(answer.iter_bytes(1000))
        assert process.stderr
        assert "POST /v1/upscale?format=bmp 200 " in process.stderr.readline()
        process.terminate()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


def test_a_log_that_nobody_reads_holds_up_nothing(engine: Path) -> None:
    with serving(engine, "--access-log") as (process, address, _), httpx.Client(base_url=address, timeout=30) as client:
        for _ in range(100):  # a pipe holds 64 KiB
            assert client.get(f"healthz?{'a' * 2000}").status_code == 200
            with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=30) as caller:
                caller.sendall(b"not HTTP\r\n\r\n")
                assert caller.recv(1000).startswith(b"HTTP/1.1 400")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process are for Linux")
def test_connections_that_cannot_be_taken_are_one_sentence_and_answered_later(engine: Path) -> None:
    with serving(engine) as (process, address, _), ExitStack() as held:
        url = httpx.URL(address)
        assert httpx.get(f"{address}healthz").status_code == 200
        many = len(os.listdir(f"/proc/{process.pid}/fd")) + 10
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (many, many))
        for _ in range(20):
            held.enter_context(socket.create_connection((url.host, url.port or 0)))
        assert process.stderr
        assert "No more connections can be taken: Too many open files. Raise" in process.stderr.readline()
        held.close()
        assert httpx.get(f"{address}healthz", timeout=30).status_code == 200
        for _ in range(20):
            held.enter_context(socket.create_connection((url.host, url.port or 0)))
        process.terminate()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
