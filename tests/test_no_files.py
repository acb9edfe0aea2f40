"""Pipes, sockets, folders and devices where a command wants a file: a sentence, at once."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click
import pytest
from PIL import Image

from drc_deploy.cli.main import cli
from tests.cli.commands import Finished, drc
from tests.runtime.networks import write_nearest

LONGEST_S = 180
"""A busy machine takes half a minute to import torch."""
ABLATE = ("ablate", "table2", "--model", "drn_xs", "--data", "photos", "--eval", "photos")
PRUNE = ("prune", "drn_xs", "--data", "photos", "--widths", "w.txt")
READERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("ablate", "--degradation"): (*ABLATE, "--degradation", "FILE.toml"),
    ("ablate", "--latency-table"): (*ABLATE, "--target", "latency", "--latency-table", "FILE.latency.json"),
    ("bench compare", "after"): ("bench", "compare", "FILE.json", "FILE.json"),
    ("bench compare", "before"): ("bench", "compare", "FILE.json", "FILE.json"),
    ("bench run", "--data"): ("bench", "drn_e", "--data", "FILE"),
    ("bench run", "engines"): ("bench", "FILE.onnx"),
    ("compress", "--degradation"): ("compress", "--model", "drn_xs", "--data", "photos", "--degradation", "FILE.toml"),
    ("compress", "--latency-table"): (
        *("compress", "--model", "drn_xs", "--data", "photos", "--target", "latency", "--ratio", "0.3"),
        *("--latency-table", "FILE.latency.json"),
    ),
    ("compress", "--teacher"): ("compress", "--model", "drn_xs", "--data", "photos", "--teacher", "FILE.safetensors"),
    ("data degrade", "--degradation"): ("data", "degrade", "photos", "-o", "out", "--degradation", "FILE.toml"),
    ("eval", "--data"): ("eval", "drn_e", "--data", "FILE"),
    ("eval", "model"): ("eval", "FILE.onnx", "--data", "photos"),
    ("export", "--calibrate"): ("export", "drn_xs", "--precision", "int8", "--calibrate", "FILE"),
    ("export", "checkpoint"): ("export", "FILE.safetensors"),
    ("finetune", "--config"): ("finetune", "--config", "FILE.toml"),
    ("finetune", "--degradation"): ("finetune", "drn_xs", "--data", "photos", "--degradation", "FILE.toml"),
    ("finetune", "--follow"): ("finetune", "drn_xs", "--data", "photos", "--follow", "FILE.safetensors"),
    ("finetune", "--teacher"): ("finetune", "drn_xs", "--data", "photos", "--teacher", "FILE.safetensors"),
    ("finetune", "checkpoint"): ("finetune", "FILE.safetensors", "--data", "photos"),
    ("import", "--duals"): ("import", "FILE.pt", "--model", "drn_s", "--duals", "FILE.pt"),
    ("import", "--network"): ("import", "FILE.pt", "--network", "FILE.py:Net"),
    ("import", "weights"): ("import", "FILE.pt"),
    ("info", "--image"): ("info", "drn_e", "--image", "FILE.png"),
    ("info", "reference"): ("info", "FILE.onnx"),
    ("models", "--widths"): ("models", "--model", "drn_xs", "--widths", "FILE.txt"),
    ("plot", "references"): ("plot", "FILE.run"),
    ("prune", "--degradation"): (*PRUNE, "--degradation", "FILE.toml"),
    ("prune", "--widths"): ("prune", "drn_xs", "--data", "photos", "--widths", "FILE.widths.json"),
    ("prune", "checkpoint"): ("prune", "FILE.safetensors", "--data", "photos", "--widths", "w.txt"),
    ("report", "reports"): ("report", "FILE.json"),
    ("search", "--degradation"): ("search", "drn_xs", "--data", "photos", "--degradation", "FILE.toml"),
    ("search", "--latency-table"): (
        *("search", "drn_xs", "--data", "photos", "--target", "latency"),
        *("--latency-table", "FILE.latency.json"),
    ),
    ("search", "checkpoint"): ("search", "FILE.safetensors", "--data", "photos"),
    ("serve", "--token-file"): ("serve", "n.onnx", "--port", "0", "--token-file", "FILE"),
    ("serve", "engines"): ("serve", "FILE.onnx", "--port", "0"),
    ("train", "--config"): ("train", "--config", "FILE.toml"),
    ("train", "--degradation"): ("train", "--model", "drn_xs", "--data", "photos", "--degradation", "FILE.toml"),
    ("train", "--init"): ("train", "--model", "drn_xs", "--data", "photos", "--init", "FILE.safetensors"),
    ("train", "--init-duals"): (
        *("train", "--model", "drn_xs", "--data", "photos"),
        *("--init", "FILE.pt", "--init-duals", "FILE.pt"),
    ),
    ("upscale", "--engine"): ("upscale", "photos", "-o", "out", "--engine", "FILE.onnx"),
    ("upscale", "--kernel"): ("upscale", "photos", "-o", "out", "--kernel", "FILE.npz"),
    ("verify", "--checkpoint"): ("verify", "n.onnx", "--checkpoint", "FILE.safetensors"),
    ("verify", "engine"): ("verify", "FILE.onnx"),
}
"""Command and parameter -> a command line that reads FILE by it."""
WRITTEN = {"-o"}
NAMES_OF_FILES = {"reference", "engine", "engines", "checkpoint", "model", "references", "--engine", "--checkpoint"} | {
    "--network",
    "--config",
    "--teacher",
    "--follow",
}
"""Parameters that are text for click, because names of shipped networks are taken as well as files."""
NO_FILE = {("latency", "model")}
"""The name of a model only."""


def parameters(command: click.Command, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield command and name of every parameter that names a file to read."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            part = command.get_command(context, word)
            assert part
            yield from parameters(part, f"{name} {word}".strip())
        return
    for parameter in command.params:
        option = parameter.opts[0]
        is_file = isinstance(parameter.type, click.Path) and parameter.type.file_okay
        if (is_file or option in NAMES_OF_FILES) and option not in WRITTEN:
            yield name, option


def test_every_parameter_that_names_a_file_is_tried() -> None:
    assert set(parameters(cli)) - NO_FILE == READERS.keys()


def make(kind: str, path: Path) -> None:
    """Make what is no file at ``path``."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")


@pytest.fixture
def place(tmp_path: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder with a photograph below it, and end a test that waits."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").symlink_to(photograph)
    for name, side in (("HR", 160), ("LRx4", 40)):
        (tmp_path / "photos" / name).mkdir()
        Image.new("RGB", (side, side)).save(tmp_path / "photos" / name / "a.png")
    (tmp_path / "w.txt").write_text("1\n" * 12)
    write_nearest(tmp_path / "n.onnx")

    def end(_number: int, _frame: FrameType | None) -> None:
        pytest.fail("the command waits")

    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(LONGEST_S)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def is_a_sentence(done: Finished) -> bool:
    return done.returncode in (1, 2) and "Error: " in done.stderr and "fault of drc-deploy" not in done.stderr


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
@pytest.mark.parametrize("line", sorted(set(READERS.values())), ids=" ".join)
def test_what_is_no_file_is_a_sentence_and_not_waited_for(place: Path, line: tuple[str, ...], kind: str) -> None:
    if kind == "pipe" and line[0] == "info" and "--image" in line:
        pytest.skip("images are read from pipes too")
    for name in {word.partition(":")[0] for word in line if word.startswith("FILE")}:
        make(kind, Path(name))
    done = drc(*line, cwd=place)
    assert is_a_sentence(done), done
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    "line", [("report", "FILE.json"), ("info", "FILE.onnx"), ("verify", "FILE.onnx")], ids=" ".join
)
@pytest.mark.parametrize(("kind", "words"), [("pipe", "is a pipe"), ("device", "is a device"), ("socket", "a socket")])
def test_the_sentence_says_what_is_there(place: Path, line: tuple[str, ...], kind: str, words: str) -> None:
    make(kind, Path(line[-1]))
    assert words in drc(*line, cwd=place).stderr


@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "x.png"])
@pytest.mark.parametrize("kind", ["socket", "device"])
def test_an_image_or_a_video_that_never_ends_is_a_sentence(place: Path, name: str, kind: str) -> None:
    make(kind, Path(name))
    done = drc("upscale", name, "-o", "out.png", cwd=place)
    assert is_a_sentence(done), done
