"""Measuring on another machine, which is this one behind a shell in place of ssh."""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drc_deploy import records
from drc_deploy.bench.report.records import CropStrip, CropVersion, Report
from drc_deploy.bench.report.report_files import read_report
from drc_deploy.cli.main import main
from tests.bench import fakes
from tests.bench.remote.remote_hosts import ROOT, Host, long_run, shell_host
from tests.runtime.networks import write_nearest

QUICK = ("--size", "16x24", "--min-runs", "8", "--min-seconds", "0", "--threads", "1")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = shell_host(tmp_path / "there")
    monkeypatch.setenv("PATH", host.path)
    return host


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    write_nearest(tmp_path / "here/n.onnx")
    return tmp_path / "here"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(str(ended.value.code))


def bench(host: Host, work: Path, *arguments: object) -> int:
    there = ("--remote", "nv@board:2222", "--remote-python", host.python)
    return run("bench", "--workdir", work, *there, *QUICK, *arguments)


def report_of(work: Path) -> Report:
    return read_report(work / "bench/report.json")


def test_the_report_is_that_of_the_same_run_here_and_nothing_is_left_there(
    host: Host, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", "--workdir", work, "--out", work / "local", *QUICK) == 0
    assert bench(host, work) == 0
    captured = capfd.readouterr()
    local, remote = read_report(work / "local/report.json"), report_of(work)
    assert remote.engines[0].quality == local.engines[0].quality
    assert remote.engines[0].sha256 == local.engines[0].sha256
    assert [strip.box for strip in remote.crops] == [strip.box for strip in local.crops]
    for crop in (work / "local/crops").iterdir():
        assert (work / "bench/crops" / crop.name).read_bytes() == crop.read_bytes()
    assert "<svg" in (work / "bench/report.html").read_text()
    assert remote.remote is not None
    assert remote.remote.target == "nv@board:2222"
    assert abs(remote.remote.clock_offset_s) < 60
    assert "bench: " in captured.err  # the progress there
    assert sorted(path.name for path in work.iterdir()) == ["bench", "local", "n.onnx"]
    assert sorted(path.name for path in (work / "bench").iterdir()) == [
        "crops",
        "report.csv",
        "report.html",
        "report.json",
        "report.md",
    ]
    host.wait_until_nothing_is_left()


def test_the_command_in_the_report_repeats_the_run(host: Host, work: Path) -> None:
    assert bench(host, work, work / "n.onnx", "--remote-dir", "kept here") == 0
    command = report_of(work).settings.command
    shutil.rmtree(work / "bench")
    subprocess.run(
        command.replace("drc-deploy", f"{sys.executable} -m drc_deploy", 1), shell=True, check=True, cwd=ROOT
    )
    assert report_of(work).settings.command == command


def test_what_a_kept_folder_has_is_not_copied_again(host: Host, work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = host.folder / "it's kept"
    assert bench(host, work, "--remote-dir", folder) == 0
    assert "copy, MiB: 1/1, n.onnx" in capfd.readouterr().err
    assert bench(host, work, "--remote-dir", folder, "--json") == 0
    captured = capfd.readouterr()
    assert "copy" not in captured.err
    assert json.loads(captured.out)["engines"][0]["name"] == "n.onnx"
    (carried,) = folder.glob("engines/*/n.onnx")
    carried.write_bytes(b"damaged")
    assert bench(host, work, "--remote-dir", folder) == 0
    assert "copy" in capfd.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["engines", "lock"]


def test_pairs_are_measured_and_told_by_their_names_here(
    host: Host, work: Path, photograph: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import cv2

    image = cv2.imread(str(photograph))
    assert image is not None
    for name, side in (("HR", 160), ("LR of mine", 40)):
        (work / "my 'data'" / name).mkdir(parents=True)
        assert cv2.imwrite(str(work / "my 'data'" / name / "a.png"), image[:side, :side])
    for name in ("a", "b"):
        (work / name).mkdir()
        write_nearest(work / name / "x\n.onnx", scale=4 if name == "a" else 2)
    engines = [work / "a/x\n.onnx", work / "b/x\n.onnx"]
    assert bench(host, work, *engines, "--data", work / "my 'data'", "--lr-dir", "LR of mine") == 0
    report = report_of(work)
    assert report.engines[0].quality.images == 1
    assert [engine.name for engine in report.engines] == [str(engines[0])]
    assert [item.name for item in report.not_measured] == [str(engines[1])]
    assert report.settings.data == str(work / "my 'data'")
    assert str(work / "my 'data'/LR of mine") in report.not_measured[0].reason
    assert "engines/" not in (work / "bench/report.json").read_text()
    assert capfd.readouterr().out.count(" input, ") == 1  # the table is shown once


def test_an_engine_that_fails_there_is_in_the_report(host: Host, work: Path) -> None:
    (work / "bad.onnx").write_bytes(b"no network")
    assert bench(host, work, work / "bad.onnx") == 1
    assert [(item.name, item.kind) for item in report_of(work).not_measured] == [("bad.onnx", "failed")]


def test_a_build_that_fails_there_ends_the_run(host: Host, work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert bench(host, work, "--remote-export", "--trt fp16 --builder tensorrt") == 1
    said = capfd.readouterr().err
    assert "nv@board:2222: `drc-deploy export n.onnx --trt fp16 --builder tensorrt` ended with exit code 1." in said
    assert not (work / "bench/report.json").exists()
    host.wait_until_nothing_is_left()


def test_ssh_gets_the_target_and_nothing_asks_where_nobody_answers(host: Host, work: Path) -> None:
    command = [sys.executable, "-m", "drc_deploy", "bench", "--workdir", str(work), *QUICK]
    command += ["--remote", "nv@board:2222", "--remote-python", "none"]
    subprocess.run(command, check=False, cwd=ROOT, start_new_session=True)  # a session without a terminal
    words = (host.folder / "arguments").read_text().splitlines()
    assert "-oBatchMode=yes" in words
    assert words[-7:] == ["-l", "nv", "-p", "2222", "--", "board", "exec none -m drc_deploy.bench.remote.there"]


@pytest.mark.parametrize(
    ("python", "message", "hint"),
    [
        ("no such/python", "has no program no such/python", "--remote-python"),
        ("/dev/null", "has no program /dev/null", "--remote-python"),
        ("false", "false on nv@board:2222 cannot run drc-deploy (exit code 1)", "pip install"),
    ],
)
def test_a_machine_without_the_program_is_told_with_what_to_do(
    host: Host, work: Path, python: str, message: str, hint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench(host, work, "--remote-python", python) == 1
    said = capfd.readouterr().err
    assert message in said
    assert hint in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("drc_deploy.__version__ = '9.9'", "has drc-deploy 9.9, and this is"),
        ("import drc_deploy.bench.remote.build_id as b; b.code_digest = lambda: 'x'", "has another drc-deploy"),
    ],
)
def test_another_program_there_is_refused_with_the_commands_that_install_this_one(
    host: Host, work: Path, change: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code = f"import drc_deploy, sys; {change}; from drc_deploy.bench.remote.there import main; sys.exit(main())"
    host.write_python(python=f'exec {sys.executable} -c "{code}"')
    assert bench(host, work) == 1
    said = capfd.readouterr().err
    assert message in said
    assert "scp -P 2222 dist/drc_deploy-" in said
    assert "nv@board:" in said


LIAR = """
import time
from pathlib import Path
from drc_deploy import __version__, records
from drc_deploy.bench.remote.build_id import code_digest
from drc_deploy.bench.remote.wire import *
wire = Wire(0, 1, "caller")
hello = records.to_json(Hello(__version__, code_digest(), time.time()))
wire.write(b"drc-deploy-remote " + hello.encode() + b"\\n")
wire.receive(Job)
wire.send(Missing({missing}))
content = Path({content!r}).read_bytes()
values = dict(path={path!r}, size_bytes=len(content) * {sign}, sha256={sha256!r})
message = dict(kind="Outcome", schema=1, exit_code=0, files=[values])
wire.write(json.dumps(message).encode() + b"\\n" + content)
wire.send(Done())
"""


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ({"path": "../evil.png"}, "sent what is no report"),
        ({"path": "crops/../../evil.png"}, "sent what is no report"),
        ({"path": "/evil/report.json"}, "sent what is no report"),
        ({"sign": -1}, "bytes"),
        ({"missing": (7,)}, "asks for files that there are not"),
        ({"sha256": "0" * 64}, "came damaged"),
        ({}, "shows files that did not come: crops/mine.png"),
    ],
)
def test_a_machine_that_lies_writes_and_shows_nothing_else(
    host: Host, work: Path, lie: dict[str, object], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """It may send a report and crops: no other files, and no report that draws files of this machine into the page."""
    tile = CropVersion("LR", "crops/mine.png", None)
    honest = fakes.report(fakes.engine("n.onnx", 1.0))
    content = records.to_json(dataclasses.replace(honest, crops=(CropStrip("x", "x", 4, (0, 0, 1, 1), (tile,)),)))
    (host.home / "report").write_text(content)
    words = {"path": "report.json", "sign": 1, "missing": (), "content": str(host.home / "report")}
    words |= {"sha256": hashlib.sha256(content.encode()).hexdigest()}
    (host.home / "liar.py").write_text(LIAR.format(**words | lie))
    host.write_python(python=f"exec {sys.executable} {host.home}/liar.py")
    assert bench(host, work) == 1
    said = capfd.readouterr().err
    assert message in said
    assert "fault of drc-deploy" not in said
    assert list((work / "bench").iterdir()) == []
    assert sorted(path.name for path in work.iterdir()) == ["bench", "n.onnx"]


def test_a_full_disk_there_is_a_sentence(host: Host, work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (work / "n.onnx").write_bytes(os.urandom(1 << 21))
    host.write_python("ulimit -f 100")  # like a disk that is full before its free space says so
    assert bench(host, work) == 1
    said = capfd.readouterr().err
    assert "Error: nv@board:2222: cannot write" in said
    assert "Traceback" not in said
    host.wait_until_nothing_is_left()


def test_a_kept_folder_that_something_is_in_the_way_of_is_a_sentence(
    host: Host, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (host.folder / "kept").mkdir()
    (host.folder / "kept/tmp").touch()
    assert bench(host, work, "--remote-dir", host.folder / "kept") == 1
    assert "Error: nv@board:2222: this machine failed: " in capfd.readouterr().err


def test_a_disk_that_is_too_small_is_told_before_anything_is_copied(
    host: Host, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (work / "n.onnx").open("wb") as stream:
        stream.truncate(shutil.disk_usage(work).free)  # sparse: it takes no room here
    host.write_python("true")
    code = "import drc_deploy.bench.remote.cargo as c, sys; c.sha256_of = lambda path: '0' * 64\n"
    code += "from drc_deploy.cli.main import main; main()"
    command = [sys.executable, "-c", code, "bench", "--workdir", str(work), "--remote", "board"]
    command += ["--remote-python", host.python]
    done = subprocess.run(command, check=False, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "MiB free, and the run needs" in done.stderr
    host.wait_until_nothing_is_left()


def test_a_machine_without_a_place_for_temporary_files_is_a_sentence(
    host: Host, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import drc_deploy, sys, tempfile; tempfile.tempdir = '/none'\n"
    code += "from drc_deploy.bench.remote.there import main; sys.exit(main())"
    host.write_python(python=f'exec {sys.executable} -c "{code}"')
    assert bench(host, work) == 1
    said = capfd.readouterr().err
    assert "there is no place for temporary files" in said
    assert "--remote-dir" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_here_stops_there(host: Host, work: Path, number: int, code: int) -> None:
    with long_run(host, work) as process:
        process.send_signal(number)
        said = process.communicate()[1]
    assert process.returncode == code
    assert "Traceback" not in said
    assert host.left() == []  # at once: it was waited for
    assert list((work / "bench").iterdir()) == []


def test_a_run_that_is_killed_here_stops_there(host: Host, work: Path) -> None:
    with long_run(host, work) as process:
        process.kill()
    host.wait_until_nothing_is_left()


def test_a_side_that_is_killed_there_is_told_here_and_cleaned_by_the_next_run(host: Host, work: Path) -> None:
    with long_run(host, work) as process:
        os.kill(pid_of_side(host), signal.SIGKILL)
        said = process.communicate()[1]
    assert process.returncode == 1
    assert "Error: the connection to board was lost" in said
    assert len(host.left()) == 1  # the folder, and no measurement
    assert bench(host, work) == 0
    host.wait_until_nothing_is_left()


def pid_of_side(host: Host) -> int:
    """Return the process that serves a run there."""
    wanted = {b"drc_deploy.bench.remote.there": "cmdline", f"TMPDIR={host.temporary}".encode(): "environ"}
    (side,) = [
        folder
        for folder in Path("/proc").glob("[0-9]*")
        if all(words in read(folder / file).split(b"\0") for words, file in wanted.items())
    ]
    return int(side.name)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--remote", "-oProxyCommand=x"), "no host to measure on"),
        (("--remote", "board", "--remote-python", "-c"), "no program"),
        (("--remote", "board", "--remote-dir", ""), "is empty"),
        (("--remote", "board", "--remote-export", "--trt 'fp16"), "open quote"),
        (("--remote", "board", "--remote-export", "--tile 64"), "no --trt"),
        (("--remote-dir", "x"), "--remote-dir is for --remote"),
    ],
)
def test_options_that_cannot_be_right_are_wrong_usage(
    work: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", "--workdir", work, *options) == 2
    assert message in capsys.readouterr().err


def test_a_machine_without_ssh_says_so(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(work))
    assert run("bench", "--workdir", work, "--remote", "board") == 1
    assert "there is no ssh" in capsys.readouterr().err
