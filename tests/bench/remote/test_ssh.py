"""Measuring through a real ssh server on the loopback."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drc_deploy.bench.report.report_files import read_report
from drc_deploy.cli.main import main
from drc_deploy.locate import SHIPPED
from tests.bench.remote.remote_hosts import ROOT, Host, long_run, ssh_host
from tests.patience import PATIENCE_S
from tests.runtime.networks import write_nearest

QUICK = ("--size", "16x24", "--min-runs", "8", "--min-seconds", "0", "--threads", "1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with ssh_host(tmp_path_factory.mktemp("server")) as host:
        yield host


@pytest.fixture
def host(server: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("PATH", server.path)
    return server


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(str(ended.value.code))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a work folder with drn_xs.onnx."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("exported")
    assert run("export", SHIPPED / "drn_xs.safetensors", "--workdir", folder) == 0
    return folder


def bench(host: Host, exported: Path, out: Path, *options: object) -> int:
    there = ("--remote", "board", "--remote-python", host.python, *options)
    return run("bench", "drn_xs.onnx", "--workdir", exported, "--out", out, *QUICK, *there)


@pytest.mark.slow
def test_an_exported_engine_is_measured_from_end_to_end(host: Host, exported: Path, tmp_path: Path) -> None:
    before = (host.folder / "log").read_text().count("Accepted publickey")
    assert bench(host, exported, tmp_path) == 0
    assert (host.folder / "log").read_text().count("Accepted publickey") == before + 1  # one login, one question
    report = read_report(tmp_path / "report.json")
    (engine,) = report.engines
    assert engine.quality.psnr_y == pytest.approx(30.36, abs=0.02)  # of the same engine, measured without ssh
    assert report.remote is not None
    assert report.remote.target == "board"
    assert len(list((tmp_path / "crops").iterdir())) == 12
    assert host.left() == []


@pytest.mark.slow
def test_a_plan_is_built_there_and_kept_for_the_next_time(
    host: Host, exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx")  # builds plans without a GPU, and runs none
    options = ("--remote-export", "--trt fp32 --builder tensorrt_rtx", "--remote-dir", host.folder / "kept")
    assert bench(host, exported, tmp_path, *options) == 1
    said = capfd.readouterr().err
    assert "copy: 1/1, drn_xs.onnx" in said
    assert "Built drn_xs.plan" in said
    assert [(item.name, item.kind) for item in read_report(tmp_path / "report.json").not_measured] == [
        ("drn_xs.plan", "skipped")
    ]
    assert bench(host, exported, tmp_path, *options) == 1
    said = capfd.readouterr().err
    assert "copy" not in said
    assert "Kept drn_xs.plan" in said
    assert not list(exported.glob("*.plan"))


def test_a_connection_that_breaks_ends_the_measurement_there(host: Host, tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    with long_run(host, tmp_path) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        os.kill(int(children.split()[0]), signal.SIGKILL)  # ssh itself
        said = process.communicate()[1]
    assert process.returncode == 1
    assert "Error: the connection to board was lost" in said
    assert "Type the same command again." in said
    host.wait_until_nothing_is_left()


def test_a_run_that_is_killed_here_leaves_nothing_there(host: Host, tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    with long_run(host, tmp_path) as process:
        process.kill()
    host.wait_until_nothing_is_left()


@pytest.mark.parametrize("target", ["stranger", "locked", "board:1"])
def test_a_login_that_fails_is_a_sentence_and_asks_nothing(
    host: Host, tmp_path: Path, target: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A host key that is not known, a key that is not allowed, and a port where nobody listens."""
    write_nearest(tmp_path / "n.onnx")
    command = [sys.executable, "-m", "drc_deploy", "bench", "--workdir", str(tmp_path), "--remote", target]
    done = subprocess.run(command, check=False, cwd=ROOT, start_new_session=True, timeout=PATIENCE_S)
    said = capfd.readouterr().err
    assert done.returncode == 1
    assert f"Error: ssh cannot log in to {target}." in said
    assert any(words in said for words in ("Host key verification failed", "Permission denied", "Connection refused"))
    assert "Traceback" not in said


def test_a_program_that_ends_there_is_not_taken_for_ssh_that_ends(
    host: Host, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_nearest(tmp_path / "n.onnx")
    command = ("bench", "--workdir", tmp_path, "--remote", "board", "--remote-python")
    assert run(*command, "no/python") == 1
    assert "board has no program no/python." in capfd.readouterr().err
    assert run(*command, "false") == 1
    assert "false on board cannot run drc-deploy (exit code 1)." in capfd.readouterr().err
