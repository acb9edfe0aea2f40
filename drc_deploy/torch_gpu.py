"""Torch on an NVIDIA GPU, for training and running: real float32, and work recorded as a CUDA graph."""

import itertools
from collections.abc import Callable, Sequence
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


def warm_up(run: Callable[[], object]) -> bool:
    """Run what is to be recorded on a stream of its own, as the recording will.

    Returns:
        Whether it can be recorded: the last pass never waited for the GPU, which a recording must not. A network of
        one's own may: one that looks at a value, or brings constants from the host.
    """
    side, main = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
    side.wait_stream(main)
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_PASSES - 1):
            run()
        waits = _waits(run)
    main.wait_stream(side)
    return not waits


def _waits(run: Callable[[], object]) -> bool:
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    except RuntimeError as error:
        if "synchronizing CUDA operation" not in str(error):
            raise
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False


class Lanes:
    """Streams for works that run side by side on a GPU; elsewhere they run one after the other."""

    def __init__(self, count: int) -> None:
        """Open as many streams."""
        several = count > 1 and torch.cuda.is_available()
        self._streams = [torch.cuda.Stream() for _ in range(count)] if several else []  # type: ignore[no-untyped-call]

    def run(self, works: Sequence[Callable[[], Result]]) -> list[Result]:
        """Queue works, and return what each does: after all that was queued before, and before what is queued later."""
        if not self._streams:
            return [work() for work in works]
        around, results = torch.cuda.current_stream(), []
        for stream in self._streams:
            stream.wait_stream(around)
        for stream, work in zip(itertools.cycle(self._streams), works, strict=False):
            with torch.cuda.stream(stream):
                results.append(work())
        for stream in self._streams:
            around.wait_stream(stream)
        return results


def record(run: Callable[[], Result], after: torch.cuda.CUDAGraph | None = None) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Record ``run`` after ``warm_up``; return the graph and the result, which every replay writes anew.

    Args:
        run: Must read the same memory every time, do the same, and never wait for the device.
        after: A graph that is replayed before this one every time, and never during it: they share memory.
    """
    graph = torch.cuda.CUDAGraph()
    # Other threads go on, such as one that reads photographs into pinned memory.
    with torch.cuda.graph(graph, pool=after.pool() if after else None, capture_error_mode="thread_local"):
        result = run()
    return graph, result
