"""Commands killed at random moments and begun again: ``python -m tests.hostile.kills``.

What comes out in the end must be what an undisturbed run makes, byte for byte, and nothing else may be left.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import click

from drc_deploy.printing import say
from tests.hostile.contents import content_of, matches
from tests.hostile.inputs import write_inputs

_DATA = ("--data", "photos", "--batch", "1", "--patch", "8")
_TRAINING = (*_DATA, "--steps", "12", "--val-every", "4", "--save-every", "0.2")
_BENCH = ("--size", "16x24", "--min-runs", "8", "--min-seconds", "0", "--threads", "1")
_REPORT = ("drc_runs/bench/*",)
_LATER_S = 2.0
_ENDED_S = 15.0
_LONGEST_S = 600.0


@dataclass(frozen=True)
class Stage:
    """A command that can be begun again."""

    name: str
    arguments: tuple[str, ...]
    results: tuple[str, ...]
    """Patterns of what must be the same in the end; every other file of an undisturbed run must be there too."""
    also: tuple[str, ...] = ()
    """Patterns of what a second run may leave, and a first one need not."""


STAGES = (
    Stage("upscale a folder", ("upscale", "photos", "--engine", "n.onnx", "--skip-existing"), ("photos_x4/*.png",)),
    Stage("upscale a video", ("upscale", "in.mp4", "--engine", "n.onnx", "-o", "out.mp4"), ("out.mp4",)),
    Stage("upscale an animation", ("upscale", "in.gif", "--engine", "n.onnx", "-o", "out.webp"), ("out.webp",)),
    Stage("animation to video", ("upscale", "in.gif", "--engine", "n.onnx", "-o", "out.mp4"), ("out.mp4",)),
    Stage("train", ("train", "--model", "drn_xs", *_TRAINING), ("drc_runs/*.safetensors",), ("tensorboard/*",)),
    Stage("finetune", ("finetune", "w.safetensors", *_TRAINING), ("drc_runs/*.safetensors",), ("tensorboard/*",)),
    Stage("search", ("search", "w.safetensors", *_DATA, "--steps", "60"), ("drc_runs/*.widths.json",)),
    Stage(
        "prune",
        ("prune", "w.safetensors", "--widths", "w.txt", *_DATA, "--batches", "1", "--channels-per-step", "8"),
        ("drc_runs/*.safetensors",),
    ),
    Stage(
        "compress",
        (
            *("compress", "--model", "w.safetensors", *_DATA, "--search-steps", "10", "--finetune-steps", "10"),
            *("--prune-method", "magnitude"),
        ),
        ("drc_runs/*.safetensors", "drc_runs/*.stages/*"),
        ("tensorboard/*",),
    ),
    Stage("export", ("export", "w.safetensors"), ("drc_runs/*.onnx",)),
    Stage("import", ("import", "plain.pt", "--network", "plain.py:Net"), ("drc_runs/*.safetensors",)),
    Stage("bench", ("bench", "n.onnx", *_BENCH), (), _REPORT),
    Stage("bench, suite", ("bench", "n.onnx", "m.onnx", "--suite", "matrix", *_BENCH), (), _REPORT),
    Stage("data prepare", ("data", "prepare", "photos", "-o", "store"), ("store/*",), ("store/verified.json",)),
    Stage("data degrade", ("data", "degrade", "photos", "-o", "set", "--degradation", "dcls"), ("set/*", "set/*/*")),
)


@click.command()
@click.option("--kills", default=20, show_default=True, help="For each stage.")
@click.option("--seed", type=int, help="Of the moments.  [default: of the clock]")
@click.option("--only", default="*", show_default=True, help="Pattern of the stages' names.")
def main(kills: int, seed: int | None, only: str) -> None:
    """Kill each stage at random moments; exit with 1 where a result is another one or something is left."""
    seed = time.time_ns() % 2**32 if seed is None else seed
    say(f"seed {seed}")
    rng, faults = random.Random(seed), 0
    for stage in STAGES:
        if fnmatch(stage.name, only):
            killed, found = _campaign(stage, kills, rng)
            say(f"{stage.name:<22}{killed:>6} kills{len(found):>6} faults")
            faults += len(found)
            for fault in found:
                say(f"  {fault}")
    raise SystemExit(faults > 0)


def _campaign(stage: Stage, kills: int, rng: random.Random) -> tuple[int, list[str]]:
    """Return how many runs were killed, and what was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        fresh, place = Path(folder, "fresh"), Path(folder, "work")  # always the same: some results name their sources
        write_inputs(fresh, side=160, frames=250)
        shutil.copytree(fresh, place)
        before = set(content_of(place))
        start = time.monotonic()
        if refusal := _refusal(stage, place):
            raise click.ClickException(refusal)
        seconds = time.monotonic() - start
        expected = content_of(place)
        shutil.rmtree(place)
        killed, faults = 0, []
        while killed < kills:
            shutil.copytree(fresh, place)
            for _ in range(rng.randint(1, 3)):
                killed += _kill(stage, place, rng.uniform(0.1, seconds))
                time.sleep(rng.choice((0.0, _LATER_S)))  # what the killed one has started may still run
            refusal = _refusal(stage, place)
            found = _differences(stage, expected, content_of(place), before)
            if found and refusal:  # without any, the last kill came when all was done
                found.append(refusal)
            faults += [*found, *_processes_left(place)]
            shutil.rmtree(place)
        return killed, faults


def _differences(stage: Stage, expected: Mapping[str, str], content: Mapping[str, str], before: set[str]) -> list[str]:
    """Return what is not as after an undisturbed run; ``before`` names what was there from the beginning."""
    made = [name for name in expected if matches(name, stage.results)]
    different = [name for name in made if name in content and content[name] != expected[name]]
    missing = [name for name in expected if name not in content and not matches(name, stage.also)]
    left = [name for name in content if name not in {*expected, *before} and not matches(name, stage.also)]
    return [
        *(f"other content in {name}" for name in different),
        *(f"missing: {name}" for name in missing),
        *(f"left: {name}" for name in left),
    ]


def _processes_left(place: Path) -> list[str]:
    """Return the processes that still work in a folder after a while."""
    end = time.monotonic() + _ENDED_S
    while working := [link for link in Path("/proc").glob("[0-9]*/cwd") if _leads_to(link, place)]:
        if time.monotonic() > end:
            return [f"still running: {(link.parent / 'cmdline').read_bytes()!r:.200}" for link in working]
        time.sleep(0.1)
    return []


def _leads_to(link: Path, place: Path) -> bool:
    try:
        return Path(os.readlink(link)).is_relative_to(place)
    except OSError:  # another user's, or gone
        return False


def _command(stage: Stage) -> list[str]:
    return [sys.executable, "-m", "drc_deploy", *stage.arguments]


def _environment() -> Mapping[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _refusal(stage: Stage, place: Path) -> str:
    """Run a stage to its end, and return what it said if it failed."""
    done = subprocess.run(
        _command(stage), cwd=place, env=_environment(), capture_output=True, text=True, check=False, timeout=_LONGEST_S
    )
    return f"{stage.name} ended with {done.returncode}: {done.stderr[-500:]}" if done.returncode else ""


def _kill(stage: Stage, place: Path, seconds: float) -> bool:
    """Begin a stage and kill it after ``seconds``; return whether it was still running."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(_command(stage), cwd=place, env=_environment(), stdout=quiet, stderr=quiet) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            return True
        return False


if __name__ == "__main__":
    main()
