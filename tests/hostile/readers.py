"""Single files: valid examples, what reads them, and how a result is checked by something that is not ours."""

import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.checkpoint_info import read_checkpoint_info
from drc_deploy.cli.config import RECIPES
from drc_deploy.images.blur import read_blur
from drc_deploy.images.reading import read_image
from drc_deploy.latency_table import LatencyTable, read_latency_table, write_latency_table
from drc_deploy.locate import SHIPPED, sample_images
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import RunOptions
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.options import EncoderOptions, Sound, VideoOptions
from drc_deploy.runtime.video.upscale import OneVideo
from drc_deploy.state_dict_file import read_state_dict
from drc_deploy.train.degradation.settings import find_degradation
from drc_deploy.widths import WidthsFile, read_widths_file, write_widths
from tests.hostile.example import Example, check_same_json, run_command, single
from tests.hostile.trial import WrongResultError
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.networks import write_nearest
from tests.runtime.video.encoder_outputs import write
from tests.runtime.video.test_encoder_outputs import VIDEOS


def _photograph() -> Image.Image:
    with Image.open(sample_images()[0]) as opened:
        photograph: Image.Image = opened.convert("RGB").crop((60, 40, 156, 104))
    return photograph


def images(folder: Path) -> Iterator[Example]:
    """Yield an image of every format."""
    photograph = _photograph()
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
        image = photograph.convert("P") if name == "png_palette" else photograph
        yield single(folder, f"image {name}", f"file{suffix}", partial(image.save, **options), _read_image)
    for suffix in (".png", ".tif"):
        encoded = cv2.imencode(suffix, deep[:, :, ::-1])[1].tobytes()
        yield single(
            folder,
            f"image 16 bits {suffix[1:]}",
            f"file{suffix}",
            partial(Path.write_bytes, data=encoded),
            _read_image,
        )


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


def animations(folder: Path) -> Iterator[Example]:
    """Yield an animation of every format."""
    frames = [_photograph().rotate(10 * number) for number in range(5)]
    for suffix in (".gif", ".png", ".webp"):
        save = partial(frames[0].save, save_all=True, append_images=frames[1:], duration=40, loop=0)
        yield single(folder, f"animation {suffix[1:]}", f"file{suffix}", save, _upscale_animation)


def _upscale_animation(path: Path) -> None:
    write_nearest(Path("n.onnx"), scale=2)
    try:
        run_command("upscale", str(path), "--engine", "n.onnx", "-o", f"out{path.suffix}")
    finally:
        Path("n.onnx").unlink()


def videos(folder: Path) -> Iterator[Example]:
    """Yield a video of every codec and container."""
    for name, made in VIDEOS.items():
        yield single(folder, f"video {name}", f"file{made.suffix}", partial(write, made=made), _upscale_video)


def _upscale_video(path: Path) -> None:
    upscaler = Upscaler(FakeBackend(fake_info(scale=2, io_dtype="float32")))
    sound: Sound = "none" if path.suffix == ".wmv" else "copy"
    options = VideoOptions(EncoderOptions("h264", preset="ultrafast"), sound, deinterlace=False)
    OneVideo(upscaler, UpscaleJob(path, Path("out.mkv")), RunOptions(), {}, options).upscale()
    Path("out.mkv").unlink()


def networks(folder: Path) -> Iterator[Example]:
    """Yield checkpoints, weights of other programs, and an ONNX file."""
    shipped = min(SHIPPED.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    copied = partial(Path.write_bytes, data=shipped.read_bytes())
    yield single(folder, "network checkpoint", "file.safetensors", copied, _read_checkpoint)
    yield single(folder, "network weights .pt", "file.pt", _write_weights, _read_weights)
    yield single(folder, "network weights .safetensors", "file.safetensors", copied, _read_state_dict)
    yield single(folder, "network onnx", "file.onnx", partial(write_nearest, scale=2), _upscale_with)


def _read_checkpoint(path: Path) -> None:
    """Read a checkpoint as the commands do, and upscale with it."""
    load_checkpoint(path)
    read_checkpoint_info(path)
    run_command("info", str(path))
    with Upscaler.open(path, threads=1) as upscaler:
        upscaler(np.zeros((16, 16, 3), np.uint8))


def _write_weights(path: Path) -> None:
    torch.save({"params": {"body.weight": torch.rand(8, 3, 3, 3), "body.bias": torch.rand(8)}}, path)


def _read_weights(path: Path) -> None:
    """Read a zip of weights; Python's own reader of zips must find it whole."""
    read_state_dict(path)
    damaged = zipfile.ZipFile(path).testzip()
    if damaged:
        raise WrongResultError(f"{damaged} has another CRC-32")


def _read_state_dict(path: Path) -> None:
    read_state_dict(path)


def _upscale_with(path: Path) -> None:
    with Upscaler.open(path, threads=1) as upscaler:
        upscaler(np.zeros((16, 16, 3), np.uint8))
    run_command("info", str(path))


def records(folder: Path) -> Iterator[Example]:
    """Yield what people write and programs keep: kernels, options, degradations, widths and times."""
    weights = np.outer(np.hanning(9), np.hanning(9))
    kernel = {"kernel": weights / weights.sum(), "scale": np.array(4), "reduction": np.array("bicubic")}
    yield single(folder, "record kernel", "file.npz", lambda path: np.savez(path, **kernel), _read_kernel)
    recipe = partial(Path.write_bytes, data=(RECIPES / "drn_s.toml").read_bytes())
    yield single(folder, "record recipe", "file.toml", recipe, _read_recipe)
    settings = b'sigma = [0.6, 5.0]\nkernel_size = 31\nnoise = [0, 10]\njpeg = [60, 95]\nreduction = "bicubic"\n'
    yield single(folder, "record degradation", "file.toml", partial(Path.write_bytes, data=settings), _read_degradation)
    yield single(folder, "record widths", "file.widths.json", _write_widths, _read_widths)
    yield single(folder, "record latency", "file.latency.json", _write_latency, _read_latency)


def _read_kernel(path: Path) -> None:
    """Read a kernel; numpy must find the same one."""
    ours = read_blur(path)
    with np.load(path) as theirs:
        if not np.array_equal(ours.kernel, theirs["kernel"]) or ours.scale != theirs["scale"]:
            raise WrongResultError("numpy reads another kernel")
    if not (ours.kernel >= 0).all() or abs(ours.kernel.sum() - 1) > 0.01:
        raise WrongResultError("it is no blur")


def _read_recipe(path: Path) -> None:
    """Train for one step by the options of a file; typed ones win."""
    quick = ("--steps", "1", "--batch", "1", "--patch", "8", "-o", "out/a.safetensors")
    run_command("train", "--model", "drn_xs", "--scale", "4", "--config", str(path), *quick)


def _read_degradation(path: Path) -> None:
    """Read settings, and degrade an image by them."""
    find_degradation(path, 4)
    Path("hr").mkdir()
    _photograph().save("hr/a.png")
    try:
        run_command("data", "degrade", "hr", "-o", "set", "--degradation", str(path))
    finally:
        Path("hr/a.png").unlink()


def _write_widths(path: Path) -> None:
    layers = tuple(f"blocks.{number}" for number in range(6))
    content = WidthsFile("drn_xs", 4, 0.3, layers, (8, 6, 6, 7, 5, 8), "drc search", asked=40.0, reached=40, full=58)
    write_widths(path, content)


def _read_widths(path: Path) -> None:
    check_same_json(read_widths_file(path), path)
    run_command("info", str(path))


def _write_latency(path: Path) -> None:
    points = tuple(((2, 0.1 * number), (4, 0.2 * number), (8, 0.4 * number)) for number in range(1, 5))
    names = tuple(f"blocks.{number}" for number in range(4))
    write_latency_table(path, LatencyTable("drn_xs", 4, "a CPU", "torch", 64, 64, 1.5, names, points))


def _read_latency(path: Path) -> None:
    check_same_json(read_latency_table(path, model="drn_xs", scale=4), path)
