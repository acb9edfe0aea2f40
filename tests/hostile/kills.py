"""Commands killed at random moments and begun again: ``python -m tests.hostile.kills``.

What comes out in the end must be what an undisturbed run makes, byte for byte, and nothing else may be left.
"""

import hashlib
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
from fractions import Fraction
from pathlib import Path

import click
import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from drc_deploy.locate import sample_images
from drc_deploy.printing import say
from tests.runtime.networks import write_nearest

_TRAINING = ("--steps", "12", "--batch", "2", "--patch", "16", "--val-every", "4", "--save-every", "0.2")


@dataclass(frozen=True)
class Stage:
    """A command that can be begun again."""

    name: str
    arguments: tuple[str, ...]
    results: tuple[str, ...]
    """Patterns of what must be the same in the end."""
    also: tuple[str, ...] = ()
    """Patterns of what a second run may leave."""


STAGES = (
    Stage("upscale a folder", ("upscale", "photos", "--engine", "n.onnx", "--skip-existing"), ("photos_x4/*.png",)),
    Stage("upscale a video", ("upscale", "in.mp4", "--engine", "n.onnx", "-o", "out.mp4"), ("out.mp4",)),
    Stage(
        "train",
        ("train", "--model", "drn_xs", "--data", "photos", *_TRAINING),
        ("drc_runs/*.safetensors",),
        ("tensorboard/*",),
    ),
    Stage("data prepare", ("data", "prepare", "photos", "-o", "store"), ("store/*",), ("store/verified.json",)),
)


@click.command()
@click.option("--kills", default=20, show_default=True, help="For each stage.")
@click.option("--seed", type=int, help="Of the moments.  [default: of the clock]")
@click.option("--only", help="Name of one stage.")
def main(kills: int, seed: int | None, only: str | None) -> None:
    """Kill each stage at random moments; exit with 1 where a result is another one or something is left."""
    seed = time.time_ns() % 2**32 if seed is None else seed
    say(f"seed {seed}")
    rng, faults = random.Random(seed), 0
    for stage in STAGES:
        if only in (None, stage.name):
            killed, found = _campaign(stage, kills, rng)
            say(f"{stage.name:<20}{killed:>6} kills{len(found):>6} faults")
            faults += len(found)
            for fault in found:
                say(f"  {fault}")
    raise SystemExit(faults > 0)


def _campaign(stage: Stage, kills: int, rng: random.Random) -> tuple[int, list[str]]:
    """Return how many runs were killed, and what was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        fresh, place = Path(folder, "fresh"), Path(folder, "work")  # always the same: some results name their sources
        _prepare(fresh)
        shutil.copytree(fresh, place)
        before = _content(place)
        start = time.monotonic()
        _run(stage, place)
        seconds = time.monotonic() - start
        expected = _content(place)
        shutil.rmtree(place)
        made = {name for name in expected if any(Path(name).match(pattern) for pattern in stage.results)}
        killed, faults = 0, []
        while killed < kills:
            shutil.copytree(fresh, place)
            for _ in range(rng.randint(1, 3)):
                killed += _kill(stage, place, rng.uniform(0.1, seconds))
            _run(stage, place)
            content = _content(place)
            different = [name for name in made if content.get(name) != expected[name]]
            unknown = [name for name in content if name not in (*expected, *before)]
            left = [name for name in unknown if not any(Path(name).match(pattern) for pattern in stage.also)]
            faults += [f"other content in {name}" for name in different] + [f"left: {name}" for name in left]
            shutil.rmtree(place)
        return killed, faults


def _prepare(place: Path) -> None:
    (place / "photos").mkdir(parents=True)
    for index in range(12):
        with Image.open(sample_images()[index % len(sample_images())]) as opened:
            cropped = opened.convert("RGB").crop((index, index, index + 300, index + 200))
            cropped.save(place / "photos" / f"{index}.png")
    write_nearest(place / "n.onnx", scale=4)
    _write_video(place / "in.mp4")


def _write_video(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(250):
            pixels = np.full((96, 128, 3), number, np.uint8)
            pixels[:, number % 100 : number % 100 + 16] = 255 - number
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())


def _command(stage: Stage) -> list[str]:
    return [sys.executable, "-m", "drc_deploy", *stage.arguments]


def _environment() -> Mapping[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _run(stage: Stage, place: Path) -> None:
    done = subprocess.run(_command(stage), cwd=place, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{stage.name} ended with {done.returncode}: {done.stderr[-500:]}")


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


def _content(place: Path) -> dict[str, str]:
    """Return the SHA-256 of every file; of a checkpoint, that of its weights, as it says how long they took."""
    return {
        path.relative_to(place).as_posix(): hashlib.sha256(_bytes(path)).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def _bytes(path: Path) -> bytes:
    if path.suffix != ".safetensors":
        return path.read_bytes()
    return b"".join(name.encode() + tensor.tobytes() for name, tensor in sorted(load_file(path).items()))


if __name__ == "__main__":
    main()
