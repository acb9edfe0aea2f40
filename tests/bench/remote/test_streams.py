"""Machines that say nothing, something else, or without end, behind a shell in place of ssh."""

import shlex
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drc_deploy.bench.remote import connection, streams
from drc_deploy.bench.remote.there import BEGIN
from tests.bench.remote.remote_hosts import Host
from tests.bench.remote.test_remote import SIDE, bench, host, work

__all__ = ["host", "work"]

PATIENCE_S = 3.0
PYTHON_STARTS_S = 12.0
"""On a busy machine."""
USUAL_S = streams.PATIENCE_S


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wait less, and check that a run ends soon all the same."""
    monkeypatch.setattr(streams, "PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(connection, "_CLOSING_S", 1.0)
    started = time.monotonic()
    yield
    assert time.monotonic() - started < USUAL_S  # by far, but the machine may be busy


@pytest.mark.parametrize(
    "login",
    [
        "exec sleep 600",
        "echo Welcome; exec sleep 600",
        "while :; do echo 'Please wait'; sleep 0.2; done",
        "while :; do printf .; sleep 0.2; done",
    ],
)
def test_a_login_that_never_begins_is_a_sentence(
    host: Host, work: Path, login: str, capfd: pytest.CaptureFixture[str]
) -> None:
    host.write_ssh(login)
    assert bench(host, work) == 1
    said = capfd.readouterr().err
    assert "Error: nv@board:2222 did not start drc-deploy within " in said
    assert "Check that a login there" in said


@pytest.mark.parametrize("login", ["exec yes", "exec cat /dev/zero", f"echo {shlex.quote(BEGIN)}; exec cat /dev/zero"])
def test_a_login_without_end_is_a_sentence(
    host: Host, work: Path, login: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(streams, "PATIENCE_S", USUAL_S)  # what ends it is not a clock
    host.write_ssh(login)
    assert bench(host, work) == 1
    assert "Error: nv@board:2222 sends far more than drc-deploy does." in capfd.readouterr().err


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("echo no JSON", "Error: the answer of nv@board:2222 does not hold valid JSON."),
        ('echo "[1]"', "Error: the answer of nv@board:2222 holds JSON, but not an object."),
        ("exec sleep 600", "Error: nv@board:2222 has been silent for "),
    ],
)
def test_an_answer_that_is_none_is_a_sentence(
    host: Host, work: Path, answer: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    host.write_ssh(f"echo {shlex.quote(BEGIN)}\n{answer}")
    assert bench(host, work) == 1
    assert message in capfd.readouterr().err


@pytest.fixture
def patience_s(monkeypatch: pytest.MonkeyPatch) -> float:
    """Wait so long that a busy machine can start Python."""
    monkeypatch.setattr(streams, "PATIENCE_S", PYTHON_STARTS_S)
    return PYTHON_STARTS_S


def with_side(host: Host, *, takes: str = "exec cat > /dev/null", sends: str = ":", side: str = SIDE) -> None:
    """Let the machine run a side that measures nothing, and shell commands where archives are brought or asked for."""
    host.write_ssh(
        f"for last; do :; done\ncd {shlex.quote(str(host.home))}\n"
        f'case "$last" in *"tar -x"*) {takes};; *"tar -c"*) echo {shlex.quote(BEGIN)}; {sends};; '
        '*) exec sh -c "$last";; esac'
    )
    host.write_python(python=f"exec {sys.executable} {shlex.quote(str(host.home / 'side.py'))}")
    (host.home / "side.py").write_text(side)


@pytest.mark.usefixtures("patience_s")
@pytest.mark.parametrize(
    ("archives", "message"),
    [
        ({"takes": "exec sleep 600"}, "has been silent for "),
        ({"takes": "cat > /dev/null; exec sleep 600"}, "has been silent for "),
        ({"sends": "exec sleep 600"}, "has been silent for "),
    ],
)
def test_an_archive_that_is_not_taken_or_sent_is_a_sentence(
    host: Host, work: Path, archives: dict[str, str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (work / "n.onnx").write_bytes(bytes(1 << 18))  # more than a pipe holds
    with_side(host, **archives)
    assert bench(host, work) == 1
    said = capfd.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (work / "bench").exists()


@pytest.mark.parametrize("sends", ["exec cat /dev/zero", "while cat headers; do :; done"])
def test_an_archive_without_end_is_a_sentence(
    host: Host, work: Path, sends: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(streams, "PATIENCE_S", USUAL_S)  # what ends it is not a clock
    monkeypatch.setattr(connection, "MOST_RESULT_BYTES", 1 << 22)
    (host.home / "headers").write_bytes(tarfile.TarInfo("pax").tobuf() * 4096)
    with_side(host, sends=sends)
    assert bench(host, work) == 1
    assert "sends far more than drc-deploy does." in capfd.readouterr().err


BUSY = """
import sys, time
import drc_deploy.bench.remote.there as there
there.BEAT_S = 0.2
def busy(words, folder):
    time.sleep(SECONDS)
    return 3
there._run = busy
sys.exit(there.main())
"""


def test_a_run_that_takes_longer_than_the_patience_is_not_cut(
    host: Host, work: Path, patience_s: float, capfd: pytest.CaptureFixture[str]
) -> None:
    with_side(host, side=BUSY.replace("SECONDS", str(1.3 * patience_s)))
    assert bench(host, work) == 1
    assert "`drc-deploy bench` ended with exit code 3." in capfd.readouterr().err


@pytest.mark.usefixtures("patience_s")
def test_a_side_that_stops_is_a_sentence(host: Host, work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stopped = "import os, signal\n" + BUSY.replace("time.sleep(SECONDS)", "os.kill(os.getpid(), signal.SIGSTOP)")
    with_side(host, side=stopped)
    assert bench(host, work) == 1
    assert "Error: nv@board:2222 has been silent for " in capfd.readouterr().err


@pytest.mark.usefixtures("patience_s")
def test_of_very_many_messages_the_first_and_the_last_are_printed(
    host: Host, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    host.write_ssh("echo first >&2; yes 'some trouble' | head -c 50000000 >&2; echo 'the reason' >&2; exit 255")
    assert bench(host, work) == 1
    said = capfd.readouterr().err
    assert said.startswith("first\n")
    assert len(said) < 2 * streams.MOST_PRINTED_BYTES
    assert " lines of nv@board:2222 are left out here.)\n" in said
    assert "the reason\nError: ssh cannot log in to nv@board:2222." in said


def test_messages_of_another_machine_do_not_reach_the_terminal_as_commands(
    host: Host, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    host.write_ssh(r"printf 'a\033[2Jb\n' >&2; exit 255")
    assert bench(host, work) == 1
    said = capfd.readouterr().err
    assert "\033" not in said
    assert "a\\x1b[2Jb\n" in said
