"""The group: help, errors and exit codes that all commands share."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from drc_deploy.cli.main import COMMANDS, cli, main
from tests.patience import PATIENCE_S
from tests.runtime.networks import write_nearest


def captured(command: list[str], folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below a group, and the words that call it."""
    yield words, group
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


@pytest.mark.parametrize(("words", "command"), list(commands(cli)))
def test_help_is_complete_and_fits_a_terminal_of_80_columns(words: tuple[str, ...], command: click.Command) -> None:
    context = click.Context(command, info_name=" ".join(("drc-deploy", *words)), terminal_width=80)
    text = command.get_help(context)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "\\b" not in text
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []
    explained = text.partition("\n\n")[2]
    for argument in set(command.params) - set(options):
        assert argument.make_metavar(context).strip("[].") in explained


def test_the_examples_of_the_program_stand_on_lines_of_their_own() -> None:
    lines = CliRunner().invoke(cli, ["--help"], terminal_width=80).output.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("  drc-deploy ")] == [
        "upscale",
        "compress",
        "export",
        "bench",
    ]


@pytest.mark.parametrize(
    ("typed", "suggested"), [("--tta", None), ("--batch", None), ("--outptu", "--output"), ("--tiles", "--tile")]
)
def test_only_options_that_are_close_to_an_unknown_one_are_suggested(
    typed: str, suggested: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["upscale", "x.png", typed])
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f"Error: No such option '{typed}'." + (f" Did you mean '{suggested}'?" if suggested else "")


@pytest.mark.parametrize(("typed", "suggested"), [("upscael", "upscale"), ("frobnicate", None)])
def test_a_command_that_is_close_to_an_unknown_one_is_suggested(
    typed: str, suggested: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([typed, "x.png"])
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f"Error: No such command '{typed}'." + (f" Did you mean '{suggested}'?" if suggested else "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(name: str) -> None:
    command = [name, *{"data": ["prepare"], "bench": ["run"]}.get(name, [])]
    result = CliRunner().invoke(cli, [*command, "--help"])
    assert result.exit_code == 0, result.output
    assert "--json" in result.output or name == "serve"  # which prints nothing but where it is


def test_a_missing_package_names_its_extra() -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from drc_deploy.cli.main import main\n"
        "main(['train', '--model', 'drn_xs', '--steps', '1'])\n"
    )
    result = captured([sys.executable, "-c", code])
    assert result.returncode == 1
    assert "needs torch" in result.stderr
    assert "drc-deploy[train]" in result.stderr


def test_debug_shows_the_traceback_and_nothing_else_does(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for arguments in (["info", "missing.onnx"], ["--debug", "info", "missing.onnx"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 1
        outputs.append(capsys.readouterr().err)
    assert "Traceback" not in outputs[0]
    assert "Traceback" in outputs[1]


@pytest.mark.parametrize("command", ["upscale", "eval", "bench"])
def test_only_precisions_in_which_a_checkpoint_runs_are_offered(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "x", "--precision", "int8"])
    assert stop.value.code == 2
    assert "'fp32', 'fp16', 'bf16'" in capsys.readouterr().err


def test_a_second_ctrl_c_while_python_leaves_shows_no_traceback() -> None:
    code = (
        "import atexit, os, signal\n"
        "from drc_deploy.cli import main\n"
        "def interrupted(**_): raise KeyboardInterrupt\n"
        "main.cli.main = interrupted\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
        "main.main([])\n"
    )
    result = captured([sys.executable, "-c", code])
    assert result.returncode == 130
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_that_becomes_another_error_stops_the_command_all_the_same(number: str, code: int) -> None:
    """As it does when it comes while a package is imported, which wraps it or lacks a part afterwards."""
    program = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from drc_deploy.cli import main\n"
        "def importing(**_):\n"
        "    try:\n"
        f"        os.kill(os.getpid(), signal.{number})\n"
        "        while True: pass\n"
        "    except BaseException as error:\n"
        "        raise RuntimeError('Error calling __set_name__') from error\n"
        "main.cli.main = importing\n"
        "main.main([])\n"
    )
    result = captured([sys.executable, "-c", program])
    assert result.returncode == code
    assert result.stderr.startswith("Stopped.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--restart"], "continue, without --restart."),
        (["train"], "continue."),
        (["upscale", "a", "b"], "continue, with --skip-existing."),
        (["upscale", "a", "--overwrite"], "continue, with --skip-existing instead of --overwrite."),
        (["upscale", "a", "--skip-existing"], "continue."),
    ],
)
def test_a_stopped_command_says_how_it_goes_on(arguments: list[str], words: str) -> None:
    program = (
        "from drc_deploy.cli import main\n"
        "def stopped(**_): raise KeyboardInterrupt\n"
        "main.cli.main = stopped\n"
        f"main.main({arguments})\n"
    )
    result = captured([sys.executable, "-c", program])
    assert (result.returncode, result.stderr) == (130, f"Stopped. Run the same command again to {words}\n")


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    """`nohup drc-deploy ... &` survives a Ctrl-C in its terminal."""
    program = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from drc_deploy.cli import main\n"
        "main.cli.main = lambda **_: os.kill(os.getpid(), signal.SIGINT)\n"
        "main.main([])\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=PATIENCE_S, check=False).returncode == 0


def test_control_characters_in_an_error_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["info", "\x1b[2Jx.safetensors"])
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert "\\x1b[2Jx" in error


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libx.so: failed to map segment", name="torch._C"),
        RuntimeError("can't start new thread"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
        OSError(),
    ],
)
def test_a_machine_without_memory_is_named_as_the_cause(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "main", fail)
    with pytest.raises(SystemExit):
        main([])
    shown = capsys.readouterr().err
    assert f"this machine failed: {str(error) or 'no memory left'}." in shown
    assert "fault of drc-deploy" not in shown


def test_a_limit_of_memory_is_named(tmp_path: Path) -> None:
    command = f"ulimit -v 200000; exec {sys.executable} -m drc_deploy train --model drn_xs --steps 1"
    run = captured(["sh", "-c", command], tmp_path)
    assert run.returncode == 1
    assert "limited to 195 MiB" in run.stderr


def test_a_working_folder_that_is_gone_is_named_as_the_cause(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = f"rmdir ../gone; exec {sys.executable} -m drc_deploy models"
    run = captured(["sh", "-c", command], tmp_path / "gone")
    assert run.returncode == 1
    assert "the working folder does not exist any more" in run.stderr


@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"]])
def test_a_full_disk_behind_standard_output_is_named(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "drc_deploy", *arguments]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_S)
    assert run.returncode == 1
    assert run.stderr.startswith("Error: cannot write to standard output: No space left on device.\n       Free some")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["models"], 0), (["modelz"], 2), (["info", "nothing"], 1), (["--debug", "info", "nothing"], 1)],
)
def test_where_standard_error_takes_nothing_the_command_ends_as_ever(arguments: list[str], code: int) -> None:
    # As for users: what is not buffered cannot be left over at the end.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "drc_deploy", *arguments]
        run = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=full, check=False, timeout=PATIENCE_S, env=buffered
        )
    assert run.returncode == code


def test_an_image_is_upscaled_though_no_progress_can_be_shown(tmp_path: Path) -> None:
    Image.new("RGB", (12, 8)).save(tmp_path / "in.png")
    write_nearest(tmp_path / "n.onnx", scale=4)
    arguments = ["upscale", "in.png", "--engine", "n.onnx", "-o", "out.png", "--overwrite"]
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "drc_deploy", *arguments]
        run = subprocess.run(command, cwd=tmp_path, stderr=full, check=False, timeout=PATIENCE_S)
    assert run.returncode == 0
    with Image.open(tmp_path / "out.png") as result:
        assert result.size == (48, 32)


def test_an_error_of_the_system_has_its_words_and_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "some.png")

    monkeypatch.setattr(cli, "main", fail)
    with pytest.raises(SystemExit):
        main([])
    shown = capsys.readouterr().err
    assert "this machine failed: Too many open files: some.png.\n       Raise the limit for open files" in shown


def test_where_no_memory_is_left_to_look_at_the_limits_there_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cli, "main", fail)
    monkeypatch.setitem(sys.modules, "resource", None)  # its import fails, as where its library cannot be mapped
    with pytest.raises(SystemExit):
        main([])
    assert "Check its disks and its memory." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "hint"), [("can't start new thread", "ulimit -u"), ("Your CPU does not support FBGEMM.", "mount it")]
)
def test_what_a_machine_lacks_has_its_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, hint: str
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(cli, "main", fail)
    with pytest.raises(SystemExit):
        main([])
    shown = capsys.readouterr().err
    assert hint in shown
    assert "fault of drc-deploy" not in shown
