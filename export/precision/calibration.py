"""How large the numbers in a graph are on real images: the ranges that its 8-bit levels have to cover."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from drc_deploy import locate
from drc_deploy.engine_info import INPUT_NAME
from drc_deploy.errors import InputError, OutputError
from drc_deploy.files import scratch_folder
from drc_deploy.images.crops import middle
from drc_deploy.images.finding import IMAGE_SUFFIXES, list_images
from drc_deploy.images.reading import read_rgb
from drc_deploy.pairs import Pair, Photograph
from drc_deploy.progress import progress
from drc_deploy.runtime.backends.contract import Pixels

PERCENTILE = 99.999
"""Numbers beyond it are clipped. What INT8 costs on Set5 in dB, all convolutions in it, in the forms for a CPU and for
TensorRT (``quantise.py``), by where the range ends:

| | drn_xs | drn_s |
|---|---|---|
| largest number | 0.037, 0.028 | 0.065, not measured |
| 99.9999 % | 0.046, 0.029 | not measured |
| 99.999 % | 0.019, 0.008 | 0.039, 0.031 |
| 99.99 % | 0.032, 0.020 | not measured |
| least mean square error of the tensor | 0.014, 0.010 | not measured |
| entropy | 1.197, 1.177 | not measured |

The mean square error is as good there, and leaves 2.5 dB less to the float32 images of drn_xs.
"""
BINS = 4096
CROP_PX = 64
"""Side of what is looked at of an image: the tensors of the whole graph are in memory at a time, 1.2 GiB for drn_s."""
MOST_IMAGES = 32
"""Of a folder, evenly spread over it."""


def shipped_crops(scale: int) -> list[NDArray[np.uint8]]:
    """Return two crops, (1, H, W, 3) uint8 RGB, from the upper half of each photograph that ships with the package."""
    uppers = [pair.lr[: len(pair.lr) // 2] for pair in _pairs(scale)]
    return [middle(half, CROP_PX)[None] for upper in uppers for half in np.array_split(upper, 2, axis=1)]


def held_out_pairs(scale: int) -> list[Pair]:
    """Return the lower halves of the shipped photographs, which no ``shipped_crops`` show, with their LR versions."""
    halves = []
    for pair in _pairs(scale):
        top = len(pair.lr) // 2
        halves.append(Pair(pair.name, pair.hr[top * scale :], pair.lr[top:]))
    return halves


def _pairs(scale: int) -> list[Pair]:
    return [Photograph(path).load(scale) for path in locate.sample_images()]


def folder_crops(folder: Path) -> list[NDArray[np.uint8]]:
    """Return the middle of each image directly in ``folder``, (1, H, W, 3) uint8 RGB, of ``MOST_IMAGES`` at most.

    Raises:
        InputError: no such folder, or no image in it.
        ImageError: an image cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}.", "Give a folder of images like those to be upscaled.")
    paths = list_images(folder)
    if not paths:
        raise InputError(f"{folder} holds no images.", f"Known are {', '.join(sorted(IMAGE_SUFFIXES))}.")
    chosen = [paths[index * len(paths) // MOST_IMAGES] for index in range(MOST_IMAGES)]
    return [middle(read_rgb(path), CROP_PX)[None] for path in dict.fromkeys(chosen)]


def measure_limits(body: onnx.ModelProto, batches: Sequence[Pixels]) -> dict[str, float]:
    """Return the magnitude that ``PERCENTILE`` per cent of the numbers in a tensor keep within, for each tensor.

    Args:
        body: float32 NHWC pixels in.
        batches: (N, H, W, 3) each.

    Returns:
        A limit for each tensor that a convolution or a ReLU reads or gives.

    Raises:
        OutputError: the disk of temporary files is full.
    """
    from google.protobuf.message import DecodeError
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    with (
        scratch_folder() as folder,
        progress("Calibrating INT8", len(batches)) as bar,
        contextlib.redirect_stdout(io.StringIO()),  # the library prints its settings
    ):
        path = folder / "body.onnx"
        onnx.save(body, path)
        try:
            calibrator = create_calibrator(
                path,
                ["Conv", "Relu"],
                str(folder / "augmented.onnx"),
                CalibrationMethod.Percentile,
                providers=["CPUExecutionProvider"],
                extra_options={"symmetric": True, "num_bins": BINS, "percentile": PERCENTILE},
            )
        except DecodeError as error:  # the library reads again what it has written, without a look at how that went
            raise OutputError(
                f"cannot write {folder}: a temporary graph was cut off.",
                "Free some space there, set TMPDIR to another disk, or raise the limit for a file (`ulimit -f`).",
            ) from error
        for batch in batches:
            # One at a time: it holds the tensors of all that it is given.
            calibrator.collect_data(_Feeds(batch))
            bar.advance()
        ranges = calibrator.compute_data()
    return {name: float(np.max(np.abs(data.range_value))) for name, data in ranges.items()}


class _Feeds:
    """One batch, as a data reader of the library."""

    def __init__(self, batch: Pixels) -> None:
        self._left = [{INPUT_NAME: batch.astype(np.float32)}]

    def get_next(self) -> dict[str, Pixels] | None:
        return self._left.pop() if self._left else None
