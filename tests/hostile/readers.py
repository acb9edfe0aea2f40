"""What is read, valid examples of it, and how a result is checked by something that is not ours."""

import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.cli.config import RECIPES
from drc_deploy.cli.main import cli
from drc_deploy.errors import UsageError
from drc_deploy.images.blur import read_blur
from drc_deploy.images.reading import read_image
from drc_deploy.locate import SHIPPED, sample_images
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import RunOptions
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.options import EncoderOptions, Sound, VideoOptions
from drc_deploy.runtime.video.upscale import upscale_video
from drc_deploy.state_dict_file import read_state_dict
from tests.hostile.trial import WrongResultError
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.networks import write_nearest
from tests.runtime.video.encoder_outputs import write
from tests.runtime.video.test_encoder_outputs import VIDEOS


@dataclass(frozen=True)
class Example:
    """A valid file of a kind, and what reads it."""

    name: str
    suffix: str
    content: bytes
    read: Callable[[Path], None]
    """Raises a ``DrcDeployError`` for a file that it refuses, and ``WrongResultError`` for a wrong result."""


def examples() -> Iterator[Example]:
    """Yield the examples of all readers, made anew."""
    yield from _images()
    yield from _videos()
    yield from _networks()
    yield from _records()


def _images() -> Iterator[Example]:
    with Image.open(sample_images()[0]) as opened:
        photograph = opened.convert("RGB").crop((60, 40, 156, 104))
    deep = np.asarray(photograph).astype(np.uint16) * 257
    kinds: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("png", ".png", {}),
        ("png_palette", ".png", {}),
        ("jpeg", ".jpg", {"quality": 90}),
        ("jpeg_progressive", ".jpg", {"quality": 90, "progressive": True}),
        ("jpeg_restarts", ".jpg", {"quality": 90, "restart_marker_rows": 1}),
        ("webp", ".webp", {"quality": 90}),
        ("webp_lossless", ".webp", {"lossless": True}),
        ("tiff", ".tif", {}),
        ("tiff_deflate", ".tif", {"compression": "tiff_adobe_deflate"}),
        ("tiff_lzw", ".tif", {"compression": "tiff_lzw"}),
        ("bmp", ".bmp", {}),
        ("gif", ".gif", {}),
        ("avif", ".avif", {}),
        ("jpeg_2000", ".jp2", {}),
    )
    for name, suffix, options in kinds:
        stream = io.BytesIO()
        image = photograph.convert("P") if name == "png_palette" else photograph
        image.save(stream, Image.registered_extensions()[suffix], **options)
        yield Example(f"image {name}", suffix, stream.getvalue(), _read_image)
    for suffix in (".png", ".tif"):
        encoded = cv2.imencode(suffix, deep[:, :, ::-1])[1].tobytes()
        yield Example(f"image 16 bits {suffix[1:]}", suffix, encoded, _read_image)


def _read_image(path: Path) -> None:
    """Read an image; OpenCV must agree where it reads the file without a conversion of its own."""
    ours = read_image(path).pixels
    content = np.frombuffer(path.read_bytes(), np.uint8)
    if path.suffix not in (".png", ".bmp") or ours.ndim != 3:
        return
    theirs = cv2.imdecode(content, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if theirs is None:
        raise WrongResultError("OpenCV does not read it")
    if theirs.shape == ours.shape and not np.array_equal(_as_rgb(theirs), ours):
        raise WrongResultError("OpenCV reads other pixels")


def _as_rgb(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    order = [2, 1, 0, 3][: pixels.shape[2]]
    return np.ascontiguousarray(pixels[:, :, order])


def _videos() -> Iterator[Example]:
    for name, made in VIDEOS.items():
        yield _written(f"video {name}", made.suffix, partial(write, made=made), _upscale_video)


def _upscale_video(path: Path) -> None:
    upscaler = Upscaler(FakeBackend(fake_info(scale=2, io_dtype="float32")))
    sound: Sound = "none" if path.suffix == ".wmv" else "copy"
    options = VideoOptions(EncoderOptions("h264", preset="ultrafast"), sound, deinterlace=False)
    upscale_video(upscaler, UpscaleJob(path, Path("out.mkv")), RunOptions(), {}, options)
    Path("out.mkv").unlink()


def _networks() -> Iterator[Example]:
    shipped = min(SHIPPED.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    yield Example("checkpoint", ".safetensors", shipped.read_bytes(), _reader(load_checkpoint))
    archive = io.BytesIO()
    torch.save({"params": {"body.weight": torch.rand(8, 3, 3, 3), "body.bias": torch.rand(8)}}, archive)
    yield Example("weights .pt", ".pt", archive.getvalue(), _read_weights)
    yield Example("weights .safetensors", ".safetensors", shipped.read_bytes(), _reader(read_state_dict))
    yield _written("onnx", ".onnx", lambda path: write_nearest(path, scale=2), _upscale_with)


def _read_weights(path: Path) -> None:
    """Read a zip of weights; Python's own reader of zips must find it whole."""
    read_state_dict(path)
    damaged = zipfile.ZipFile(path).testzip()
    if damaged:
        raise WrongResultError(f"{damaged} has another CRC-32")


def _upscale_with(path: Path) -> None:
    with Upscaler.open(path, threads=1) as upscaler:
        upscaler(np.zeros((16, 16, 3), np.uint8))


def _records() -> Iterator[Example]:
    weights = np.outer(np.hanning(9), np.hanning(9))
    kernel = {"kernel": weights / weights.sum(), "scale": np.array(4), "reduction": np.array("bicubic")}
    yield _written("kernel", ".npz", lambda path: np.savez(path, **kernel), _reader(read_blur))
    recipe = (RECIPES / "drn_s.toml").read_bytes()
    yield Example("recipe", ".toml", recipe, _read_recipe)


def _read_recipe(path: Path) -> None:
    """Read the options of a training that then has no photographs."""
    try:
        cli.main(["train", "--config", str(path), "--data", str(path.with_name("none"))], standalone_mode=False)
    except click.ClickException as error:
        raise UsageError(error.format_message()) from error


def _written(name: str, suffix: str, write: Callable[[Path], object], read: Callable[[Path], None]) -> Example:
    """Return an example of what ``write`` makes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"file{suffix}")
        write(path)
        return Example(name, suffix, path.read_bytes(), read)


def _reader(read: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return ``read`` without its result."""

    def discard(path: Path) -> None:
        read(path)

    return discard
