"""What the training device computes at most: the yardstick for a training step."""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from drc_deploy.train.device import training_device
from drc_deploy.train.loop.run_options import TrainingPrecision

SECONDS = 1.0
"""Time that each operation gets."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_SIDES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
"""Of square matrices."""
_CHANNELS, _KERNEL = (64, 256), 3


def measure_peak(precision: TrainingPrecision) -> float:
    """Return the FLOP/s of the fastest of some large matrix products and convolutions; a multiply-add counts two."""
    device, dtype = training_device(), _DTYPES[precision]
    operations = [_product(side, device, dtype) for side in _SIDES[device.type]]
    operations += [_convolution(channels, device, dtype) for channels in _CHANNELS]
    with torch.no_grad():
        return max(flops / _fastest(run) for flops, run in operations)


Operation = tuple[float, Callable[[], Tensor]]
"""FLOPs of one call, and the call."""


def _product(side: int, device: torch.device, dtype: torch.dtype) -> Operation:
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2.0 * side**3, lambda: a @ b


def _convolution(channels: int, device: torch.device, dtype: torch.dtype) -> Operation:
    side, images = 64, 8 if device.type == "cpu" else 64
    x = torch.randn(images, channels, side, side, device=device, dtype=dtype)
    weight = torch.randn(channels, channels, _KERNEL, _KERNEL, device=device, dtype=dtype)
    x, weight = (tensor.to(memory_format=torch.channels_last) for tensor in (x, weight))
    flops = 2.0 * images * side**2 * channels**2 * _KERNEL**2
    return flops, lambda: F.conv2d(x, weight, padding=1)


def _fastest(run: Callable[[], Tensor]) -> float:
    """Return the shortest time of a call in seconds."""
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        if training_device().type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
