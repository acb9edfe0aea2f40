"""Torch on an NVIDIA GPU, for training and running: real float32, and work recorded as a CUDA graph."""

from collections.abc import Callable
from typing import TypeVar

import torch

from drc_deploy.engine_info import Precision
from drc_deploy.errors import MissingDependencyError

WARM_UP_PASSES = 3
"""Before a recording, as PyTorch asks for: libraries choose their kernels and allocate in the first ones."""

Result = TypeVar("Result")


def prepare_gpu(precision: Precision) -> None:
    """Let the GPU compute in ``precision``, and in float32 where that is asked for.

    Raises:
        MissingDependencyError: the GPU has no bfloat16.
    """
    compute_in_float32()
    if precision == "bf16" and not has_bf16():
        raise MissingDependencyError("this GPU does not compute in bfloat16.", "Use --precision fp16 or fp32.")


def compute_in_float32() -> None:
    """Let a GPU compute float32 as float32."""
    # TF32 has 11 bits: an image in 0..255 would be rounded to an eighth of a grey level.
    torch.backends.cudnn.allow_tf32 = False


def has_bf16() -> bool:
    """Return whether the GPU computes in bfloat16 itself; this starts CUDA."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def warm_up(run: Callable[[], object]) -> None:
    """Run what is to be recorded on a stream of its own, as the recording will."""
    side, main = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
    side.wait_stream(main)
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_PASSES):
            run()
    main.wait_stream(side)


def record(run: Callable[[], Result]) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Record ``run`` after ``warm_up``; return the graph and the result, which every replay writes anew.

    Args:
        run: Must read the same memory every time, do the same, and never wait for the device.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return graph, result
