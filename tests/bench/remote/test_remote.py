"""Measuring on another machine, which is this one behind a shell in place of ssh."""

import dataclasses
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from drc_deploy import records
from drc_deploy.bench.remote.there import BEGIN, RESULTS, code_digest
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
    (work / "n.onnx").write_bytes(b"no network")  # found out in no time
    assert bench(host, work, work / "n.onnx", "--remote-dir", "kept here") == 1
    command = report_of(work).settings.command
    shutil.rmtree(work / "bench")
    again = command.replace("drc-deploy", f"{sys.executable} -m drc_deploy", 1)
    assert subprocess.run(again, shell=True, check=False, cwd=ROOT).returncode == 1
    assert report_of(work).settings.command == command


def test_a_kept_folder_is_sent_only_missing_and_damaged_files(
    host: Host, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (work / "n.onnx").write_bytes(b"no network")
    folder = host.folder / "it's kept"
    for damage, copied in ((b"", True), (b"", False), (b"damage", True)):
        for carried in folder.glob("engines/*/n.onnx"):
            carried.write_bytes(carried.read_bytes() + damage)
        assert bench(host, work, work / "n.onnx", "--remote-dir", folder) == 1
        assert ("copy: 1/1, n.onnx" in capfd.readouterr().err) == copied
    assert [path.name for path in folder.iterdir()] == ["engines"]


def test_pairs_are_measured_and_named_as_here(
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


def test_ssh_gets_the_target_and_no_option_from_it(host: Host, work: Path) -> None:
    assert bench(host, work, "--remote-python", "none") == 1
    words = (host.folder / "arguments").read_text().splitlines()
    assert words[-7:] == ["-l", "nv", "-p", "2222", "--", "board", "exec none -m drc_deploy.bench.remote.there"]


@pytest.mark.parametrize(
    ("python", "message", "hint"),
    [
        ("no such/python", "has no program no such/python", "--remote-python"),
        ("/dev/null", "has no program /dev/null", "--remote-python"),
        ("false", "false on nv@board:2222 cannot run drc-deploy (exit code 1)", "pip install"),
    ],
)
def test_a_machine_without_the_program_is_a_sentence_with_a_hint(
    host: Host, work: Path, python: str, message: str, hint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench(host, work, "--remote-python", python) == 1
    said = capfd.readouterr().err
    assert message in said
    assert hint in said.splitlines()[-1]


def test_another_version_there_is_refused_with_the_commands_that_install_this_one(
    host: Host, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import drc_deploy.bench.remote.there as there, sys; there.__version__ = '9.9'; sys.exit(there.main())"
    host.write_python(python=f'exec {sys.executable} -c "{code}"')
    assert bench(host, work) == 1
    said = capfd.readouterr().err
    assert "has drc-deploy 9.9, and this is" in said
    assert "scp -P 2222 dist/drc_deploy-" in said
    assert "nv@board:" in said
    host.wait_until_nothing_is_left()


def test_a_changed_file_in_any_folder_is_another_program(
    host: Host, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = host.home / "checkout"
    shutil.copytree(ROOT / "drc_deploy", copy / "drc_deploy", ignore=shutil.ignore_patterns("__pycache__"))

    def digest() -> str:
        code = "from drc_deploy.bench.remote.there import code_digest; print(code_digest())"
        command = [sys.executable, "-c", code]
        return subprocess.check_output(
            command, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, text=True
        ).strip()

    assert digest() == code_digest()
    digests = [code_digest()]
    for changed in ("models/drn.py", "recipes/drn_s.toml", "bench/machine/telemetry/files.py"):
        with (copy / "drc_deploy" / changed).open("a") as stream:
            stream.write("\n")
        digests.append(digest())
    assert len(set(digests)) == 4
    host.write_python(f"export PYTHONPATH='{copy}'")
    assert bench(host, work) == 1
    assert "has another drc-deploy" in capfd.readouterr().err


def send_archive(host: Host, names: list[tuple[str, bytes | None]], after: str = ":") -> None:
    """Let the machine send an archive of its own for a report, and then run ``after``.

    A name without content is a link to /etc/passwd.
    """
    with tarfile.open(host.folder / "archive", "w") as archive:
        for name, content in names:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content or b""))
    host.write_ssh(
        f"for last; do :; done\ncd {shlex.quote(str(host.home))}\necho Welcome\n"
        f'case "$last" in *"tar -cf"*) echo {shlex.quote(BEGIN)}; '
        f"cat {shlex.quote(str(host.folder / 'archive'))}; {after};; "
        '*"tar -x"*) exec cat > /dev/null;; *) exec sh -c "$last";; esac'
    )
    host.write_python(python=f"exec {sys.executable} {shlex.quote(str(host.home / 'side.py'))}")
    (host.home / "side.py").write_text(SIDE)


SIDE = """
import sys
import drc_deploy.bench.remote.there as there
there._run = lambda words, folder: 0
sys.exit(there.main())
"""


def a_report(*crops: str) -> bytes:
    """Return a report that shows files."""
    strips = tuple(CropStrip("x", "x", 4, (0, 0, 1, 1), (CropVersion("LR", name, None),)) for name in crops)
    return records.to_json(dataclasses.replace(fakes.report(fakes.engine("n.onnx", 1.0)), crops=strips)).encode()


def test_what_follows_the_end_of_an_archive_is_no_lost_connection(host: Host, work: Path) -> None:
    padding = "sleep 0.5; exec head -c 10240 /dev/zero"  # as tar pads, from a slow machine
    send_archive(host, [(f"{RESULTS}/report.json", a_report())], padding)
    assert bench(host, work) == 0


def test_other_files_than_a_report_and_its_crops_are_not_written(host: Host, work: Path) -> None:
    strange = [
        f"{RESULTS}/../evil.png",
        f"{RESULTS}/crops/../../evil.png",
        "/evil/report.json",
        f"{RESULTS}/crops/.png",
        "evil.png",
    ]
    report = a_report("crops/a.png")
    sent = [(name, b"x") for name in strange]
    send_archive(
        host,
        [
            *sent,
            (f"{RESULTS}/crops/link.png", None),
            (f"{RESULTS}/report.json", report),
            (f"{RESULTS}/crops/a.png", b"a crop"),
        ],
    )
    assert bench(host, work) == 0
    assert [path.name for path in (work / "bench/crops").iterdir()] == ["a.png"]
    assert {path.name for path in (work / "bench").iterdir()} == {"crops"} | {
        f"report.{kind}" for kind in ("csv", "html", "json", "md")
    }
    assert sorted(path.name for path in work.iterdir()) == ["bench", "n.onnx"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (a_report("crops/mine.png"), "shows files that did not come: crops/mine.png"),
        (b"no JSON", "report.json"),
        (None, "`drc-deploy bench` ended with exit code 0"),
    ],
)
def test_a_report_that_cannot_be_one_is_a_sentence(
    host: Host, work: Path, content: bytes | None, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    send_archive(host, [(f"{RESULTS}/report.json", content)])
    assert bench(host, work) == 1
    said = capfd.readouterr().err
    assert message in said
    assert "fault of drc-deploy" not in said
    assert not (work / "bench").exists()


def test_a_full_disk_there_is_a_sentence(host: Host, work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (work / "n.onnx").write_bytes(os.urandom(1 << 21))
    host.write_ssh(
        f'for last; do :; done\ncd {shlex.quote(str(host.home))}\ntrap "" XFSZ\n'
        'case "$last" in *"tar -x"*) ulimit -f 100;; esac\nexec sh -c "$last"'
    )
    assert bench(host, work) == 1
    said = capfd.readouterr().err
    assert "Error: tar on nv@board:2222 cannot copy files (exit code 2)." in said
    assert "tar: engines/" in said  # its own words
    assert "Traceback" not in said
    host.wait_until_nothing_is_left()


def test_a_kept_folder_that_something_is_in_the_way_of_is_a_sentence(
    host: Host, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (host.folder / "kept").mkdir()
    (host.folder / "kept/drc-deploy-tmp").touch()
    assert bench(host, work, "--remote-dir", host.folder / "kept") == 1
    assert "Error: the other machine failed: " in capfd.readouterr().err


def test_what_a_login_prints_is_not_in_the_json(host: Host, work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert bench(host, work, "--json") == 0
    assert json.loads(capfd.readouterr().out)["remote"]["target"] == "nv@board:2222"


def test_a_measurement_that_fails_there_is_an_error_here_and_no_report(
    host: Host, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ends = "import atexit, os, sys\nif 'bench' in sys.orig_argv:\n    atexit.register(os._exit, 143)\n"
    (host.home / "start").mkdir()
    (host.home / "start/sitecustomize.py").write_text(ends)
    host.write_python(f"export PYTHONPATH={shlex.quote(str(host.home / 'start'))}:$PYTHONPATH")
    assert bench(host, work) == 1
    assert "`drc-deploy bench` ended with exit code 143" in capfd.readouterr().err
    assert not (work / "bench/report.json").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_here_stops_there(host: Host, work: Path, number: int, code: int) -> None:
    with long_run(host, work) as process:
        process.send_signal(number)
        said = process.communicate()[1]
    assert process.returncode == code
    assert "Traceback" not in said
    assert host.left() == []  # at once: it was waited for
    assert not (work / "bench").exists()


def test_a_run_that_is_killed_here_stops_there(host: Host, work: Path) -> None:
    with long_run(host, work) as process:
        process.kill()
    host.wait_until_nothing_is_left()


def test_a_side_that_is_killed_there_is_an_error_here_and_the_next_run_cleans_up(host: Host, work: Path) -> None:
    with long_run(host, work) as process:
        os.kill(pid_of_side(host), signal.SIGKILL)
        said = process.communicate()[1]
    assert process.returncode == 1
    assert "Error: the connection to board was lost" in said
    (left,) = host.left()  # the folder, and no measurement
    os.utime(host.temporary / left, (0, 0))  # long ago
    assert bench(host, work, "--remote-export", "--trt no") == 1
    host.wait_until_nothing_is_left()


def pid_of_side(host: Host) -> int:
    """Return the process that serves a run there."""
    wanted = {b"drc_deploy.bench.remote.there": "cmdline", f"TMPDIR={host.temporary}".encode(): "environ"}
    sides = [
        folder
        for folder in Path("/proc").glob("[0-9]*")
        if all(words in read(folder / file).split(b"\0") for words, file in wanted.items())
    ]
    # A child that is just being started looks the same until it runs another program.
    names = {folder.name.encode() for folder in sides}
    (side,) = [folder for folder in sides if parent_of(folder) not in names]
    return int(side.name)


def parent_of(process: Path) -> bytes:
    """Return the number of the parent of a process; nothing where it has ended."""
    fields = dict(line.split(b":\t", 1) for line in read(process / "status").splitlines() if b":\t" in line)
    return fields.get(b"PPid", b"")


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
