"""Commands that write, each quick, and the files that they read."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from drc_deploy.locate import SHIPPED, sample_images
from tests.bench import reports
from tests.hostile.conditions.outcome import run
from tests.hostile.inputs import WIDTHS, write_video
from tests.runtime.networks import write_nearest

_TRAINING = ("--steps", "4", "--batch", "1", "--patch", "16", "--val-every", "2", "--save-every", "0")
_ENLARGE = ("upscale", "--engine", "../in/n.onnx")
_SEGMENTS = ("o.segments", "o.segments/*")
_RUN = ("t.run", "t.run/*")


@dataclass(frozen=True)
class Command:
    """A command whose working folder is the disk, next to the folder ``in`` that it reads."""

    name: str
    arguments: tuple[str, ...]
    keeps: tuple[str, ...] = ()
    """Patterns of unfinished work that may stay after a failure, for the same command to go on with."""
    differs: tuple[str, ...] = ()
    """Patterns of results that hold times, and so are never twice the same."""


def commands() -> Iterator[Command]:
    """Yield all commands of the campaign."""
    yield from _images()
    yield from _videos()
    yield from _networks()
    yield from _records()


def _images() -> Iterator[Command]:
    for suffix in ("png", "jpg", "webp", "tif", "bmp", "gif", "avif"):
        yield Command(f"image {suffix}", (*_ENLARGE, "../in/photo.png", "-o", f"o.{suffix}"))
    for suffix in ("gif", "png", "webp"):
        yield Command(f"animation {suffix}", (*_ENLARGE, "../in/moving.gif", "-o", f"o.{suffix}"))
    folder = (*_ENLARGE, "../in/photos", "-o", "results", "--skip-existing")
    keeps = ("results", "results/*.png", "results/.drc-deploy.jsonl")
    yield Command("folder", folder, keeps, differs=("*.jsonl",))


def _videos() -> Iterator[Command]:
    for suffix in ("mp4", "mkv", "webm"):
        yield Command(f"video {suffix}", (*_ENLARGE, "../in/moving.mp4", "-o", f"o.{suffix}"), _SEGMENTS)
    yield Command("video of gif", (*_ENLARGE, "../in/moving.gif", "-o", "o.mp4"), _SEGMENTS)


def _networks() -> Iterator[Command]:
    exported = ("export", "../in/compact.safetensors", "-o", "e")
    yield Command("export", exported, ("drc_runs",))
    yield Command("export int8", (*exported, "--precision", "int8"), ("drc_runs",))
    yield Command("export exact", ("export", "../in/w.safetensors", "-o", "e", "--exact"), ("drc_runs",))
    yield Command("export triton", ("export", "../in/n.onnx", "--triton", "models"))
    yield Command("import", ("import", "../in/compact.pth", "-o", "i.safetensors"))
    training = ("train", "--model", "drn_xs", "--data", "../in/photos", *_TRAINING, "-o", "t.safetensors")
    yield Command("train", training, _RUN, differs=("t.safetensors", *_RUN))
    tuning = ("finetune", "../in/w.safetensors", "--data", "../in/photos", *_TRAINING, "-o", "t.safetensors")
    yield Command("finetune", tuning, _RUN, differs=("t.safetensors", *_RUN))
    cut = ("--widths", "../in/w.txt", "--batches", "1", "--channels-per-step", "8", "--method", "magnitude")
    pruning = ("prune", "../in/w.safetensors", "--data", "../in/photos", "--batch", "1", "--patch", "16", *cut)
    yield Command("prune", (*pruning, "-o", "p.safetensors"), (".state", ".state/*"))
    steps = (
        "--search-steps",
        "2",
        "--finetune-steps",
        "2",
        "--prune-method",
        "magnitude",
        "--batch",
        "1",
        "--patch",
        "16",
    )
    compressing = (
        "compress",
        "--model",
        "../in/w.safetensors",
        "--data",
        "../in/photos",
        *steps,
        "-o",
        "c.safetensors",
    )
    yield Command("compress", compressing, ("c.*", "c.*/*"), differs=("c.*", "c.*/*"))


def _records() -> Iterator[Command]:
    yield Command("data prepare", ("data", "prepare", "../in/photos", "-o", "store"), differs=("store/*",))
    degraded = ("data", "degrade", "../in/photos", "--degradation", "dcls", "-o", "set")
    yield Command("data degrade", degraded, differs=("set/*/*.npz", "set/*.json"))
    search = ("search", "drn_xs", "--method", "by-cost", "--target", "madds", "-o", "s.widths.json")
    yield Command("search", search, keeps=("s.widths.json",), differs=("*.json",))  # its picture may be missing
    yield Command("report", ("report", "../in/report/report.json", "--out", "r"), differs=("r/*",))


def write_inputs(folder: Path) -> None:
    """Make what the commands read."""
    (folder / "photos").mkdir(parents=True)
    for index in range(4):
        with Image.open(sample_images()[index]) as opened:
            image = opened.convert("RGB").crop((60, 40, 252, 168))
        image.info.clear()  # a BMP holds no profile
        image.save(folder / "photos" / f"{index}.png")
    image.save(folder / "photo.png")
    frames = [Image.fromarray(np.roll(np.asarray(image), shift, 1)) for shift in range(0, 96, 16)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:], duration=40)
    write_video(folder / "moving.mp4", 250)
    write_nearest(folder / "n.onnx", scale=4)
    shutil.copy(SHIPPED / "drn_xs.safetensors", folder / "w.safetensors")
    (folder / "w.txt").write_text("\n".join(map(str, WIDTHS)))
    torch.save({"params": compact_weights()}, folder / "compact.pth")
    run(("import", "compact.pth", "-o", "compact.safetensors"), folder, lambda: None)
    reports.saved(folder / "report", reports.quiet(reports.steady("a.onnx", 3), reports.steady("b.onnx", 2)))


def compact_weights() -> dict[str, torch.Tensor]:
    """Return weights of a small network of the architecture Compact."""
    sizes = {"0": (8, 3, 3, 3), "1": (8,), "2": (8, 8, 3, 3), "3": (8,), "4": (12, 8, 3, 3)}
    weights = {f"body.{index}.weight": torch.full(size, 0.01) for index, size in sizes.items()}
    return weights | {f"body.{index}.bias": torch.zeros(sizes[index][0]) for index in ("0", "2", "4")}
