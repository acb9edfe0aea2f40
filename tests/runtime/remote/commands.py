"""The command that a user types, and what it leaves on a disk and in a bucket."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.commands import Finished, drc

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("s3fs")
pytest.importorskip("moto")

IMAGES = ("a.png", "b.jpg", "sub/c.png")
MAIN = "import sys; from drc_deploy.cli.main import main; main(sys.argv[1:])"
STOPPED = "Stopped. Run the same command again to continue, with --skip-existing."


def noise(seed: int, side: int = 24) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (side + seed, side, 3), np.uint8)


def upscale(work: Path, *arguments: object) -> Finished:
    done = drc("upscale", *arguments, "--engine", "n.onnx", "--threads", "1", cwd=work)
    assert "Traceback" not in done.stderr
    assert "fault of drc-deploy" not in done.stderr
    assert list((work / "temporary").iterdir()) == []
    return done


def refused(work: Path, *arguments: object) -> str:
    """Return the two sentences of an error."""
    done = upscale(work, *arguments)
    assert done.returncode in (1, 2)
    lines = done.stderr.strip().splitlines()
    assert lines[-2].startswith("Error: ")
    return "\n".join(lines[-2:])


def results(folder: str) -> dict[str, bytes]:
    """Return what lies below a folder of storage, without records."""
    system, path = fsspec.core.url_to_fs(folder)
    found = {name: system.cat_file(name) for name in system.find(path)}
    start = len(system._strip_protocol(folder)) + 1
    return {name[start:]: content for name, content in found.items() if ".drc-deploy" not in name}


def expected(work: Path) -> dict[str, bytes]:
    """Return what is made of the images on the disk."""
    shutil.rmtree(work / "alone", ignore_errors=True)
    assert upscale(work, "in", "-o", "alone").returncode == 0
    return {name: (work / "alone" / name).read_bytes() for name in ("a.png", "b.png", "sub/c.png")}


def write_clip(path: Path, frames: int) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for seed in range(frames):
            frame = av.VideoFrame.from_ndarray(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
