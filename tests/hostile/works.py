"""Work that goes on: what a stopped run left, one file of it damaged, and the command that takes it up again."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import pytest

from drc_deploy.runtime.video.segments import Segments
from drc_deploy.train.loop.trainer import Trainer
from drc_deploy.train.pruning.greedy import GreedyPruning
from drc_deploy.train.search.searcher import Searcher
from tests.hostile.contents import content_of, matches
from tests.hostile.example import Example, keep_template, run_command, work_place
from tests.hostile.inputs import write_inputs
from tests.hostile.trial import WrongResultError
from tests.train.interruption import interrupt_after

_QUICK = ("--data", "photos", "--batch", "2", "--patch", "16")
_SMALL = ("--batch", "1", "--patch", "8", "--batches", "1", "--channels-per-step", "8")
_TRAIN = (*_QUICK, "--steps", "6", "--val", "others", "--val-every", "2", "-o", "a.safetensors")


@dataclass(frozen=True)
class Work:
    """A command that goes on from what an earlier run of it has left."""

    name: str
    arguments: tuple[str, ...]
    results: tuple[str, ...]
    """Patterns of what must be the same in the end, whatever was damaged, unless the command refuses."""
    stop: tuple[object, str, int] | None
    """Class, method, and how many calls of it are let through; None: the first run is not stopped."""
    damaged: tuple[str, ...]
    """Patterns of the files that are damaged, each in an example of its own."""
    first: tuple[str, ...] = ()
    """What makes the files, where it is another command."""
    also: tuple[str, ...] = ("*.tfevents.*", "*.jsonl", "config.toml")
    """Patterns of files that may be others than after an undisturbed run."""


WORKS = (
    Work(
        "train",
        ("train", "--model", "drn_xs", *_TRAIN),
        ("a.safetensors",),
        (Trainer, "update", 5),
        ("a.run/state.safetensors", "a.run/best.safetensors", "a.run/log.jsonl", "a.run/config.toml"),
    ),
    Work(
        "finetune",
        # At such a rate the first weights that are validated are the best.
        ("finetune", "w.safetensors", *_TRAIN, *("--learning-rate", "0.001", "--schedule", "constant")),
        ("a.safetensors",),
        (Trainer, "update", 5),
        ("a.run/best.*",),
    ),
    Work(
        "search",
        ("search", "w.safetensors", *_QUICK, "--steps", "5", "-o", "a.widths.json"),
        ("a.widths.json",),
        (Searcher, "update", 3),
        (".state/*",),
    ),
    Work(
        "prune",
        (*("prune", "w.safetensors", "--widths", "w.txt", "--data", "photos", "-o", "a.safetensors"), *_SMALL),
        ("a.safetensors",),
        (GreedyPruning, "prune_layer", 3),
        (".state/*",),
    ),
    Work(
        "compress",
        (
            *("compress", "--model", "w.safetensors", *_QUICK, "--workdir", "work", "--search-steps", "2"),
            *(
                "--prune-batches",
                "1",
                "--finetune-steps",
                "2",
                "--search-method",
                "uniform",
                "--prune-method",
                "magnitude",
            ),
        ),
        ("work/*.safetensors",),
        (Trainer, "update", 1),
        ("work/*.manifest.json", "w_r30.stages/*", "work/w_r30.run/state.*"),
        also=("*.tfevents.*", "*.jsonl", "config.toml", "*.manifest.json"),
    ),
    Work(
        "store",
        ("train", "--model", "drn_xs", "--data", "store", *_QUICK[2:], "--steps", "2", "-o", "a.safetensors"),
        ("a.safetensors",),
        None,
        ("store/*",),
        first=("data", "prepare", "photos", "-o", "store"),
        also=("*.tfevents.*", "*.jsonl", "config.toml", "verified.json"),
    ),
    Work(
        "prepare",
        ("data", "prepare", "photos", "-o", "store"),
        ("store/pixels.bin",),
        None,
        ("store/index.json", "store/pixels.bin"),
        also=("verified.json",),
    ),
    Work(
        "video",
        ("upscale", "in.mp4", "--engine", "n.onnx", "-o", "out.mp4", "--preset", "ultrafast"),
        ("out.mp4",),
        (Segments, "path", 3),
        ("out.segments/*",),
        also=("out.segments/*",),  # which stays where its note names another source
    ),
    Work(
        "folder",
        ("upscale", "photos", "--engine", "n.onnx", "--skip-existing"),
        ("photos_x4/*.png",),
        None,
        ("photos_x4/.drc-deploy.jsonl",),
    ),
)


def works(folder: Path) -> Iterator[Example]:
    """Yield an example for each file that a stopped run left."""
    for work in WORKS:
        home = folder / f"work_{work.name}"
        expected, before = _make(work, home)
        for name in sorted(before):
            if matches(name, work.damaged):
                shown = f"work {work.name} {name.rpartition('/')[2]}"
                yield Example(shown, home, name, partial(_go_on, work=work, expected=expected))


def _make(work: Work, home: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Make the template, and return what lies there after an undisturbed end, and before."""
    place = work_place(home)
    write_inputs(place)
    with _working_in(place):
        _stopped(work)
    before = content_of(place)
    template = keep_template(home)
    shutil.copytree(template, place, symlinks=True)
    with _working_in(place):
        run_command(*work.arguments)
    expected = content_of(place)
    shutil.rmtree(place)
    return expected, before


def _go_on(path: Path, *, work: Work, expected: dict[str, str]) -> None:
    run_command(*work.arguments)
    place = Path.cwd()
    content = content_of(place)
    for name, sha256 in expected.items():
        if matches(name, work.results) and content.get(name) != sha256:
            raise WrongResultError(f"{name} is another one than without the damage")
    left = [name for name in content if name not in expected and not matches(name, work.also)]
    if left:
        raise WrongResultError(f"left: {left}")


def _stopped(work: Work) -> None:
    """Run a command up to where it is stopped."""
    if work.stop is None:
        run_command(*(work.first or work.arguments))
        return
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, *work.stop)
        with pytest.raises(click.Abort):
            run_command(*work.arguments)


@contextmanager
def _working_in(place: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)
