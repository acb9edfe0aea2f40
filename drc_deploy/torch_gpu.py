"""Torch on an NVIDIA GPU, for training and running: real float32, and work recorded as a CUDA graph."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
    """Run what is to be recorded on a stream that can be recorded, as ``record`` will.

    Returns:
        Whether it can be recorded: the last pass never waited for the GPU, which a recording must not. A network of
        one's own may: one that looks at a value, or brings constants from the host.
    """
    side, main = _recordable_stream(), torch.cuda.current_stream()
    side.wait_stream(main)
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_PASSES - 1):
            run()
        waits = _waits(run)
    main.wait_stream(side)
    return not waits


def _waits(run: Callable[[], object]) -> bool:
    try:
        with waiting_refused():
            run()
    except RuntimeError as error:
        if "synchronizing CUDA operation" not in str(error):
            raise
        return True
    return False


@contextmanager
def waiting_refused() -> Iterator[None]:
    """Let torch raise an error where this process waits for the GPU in the block."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says once that this finds most waits, not all
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class Lanes:
    """Streams for works that run side by side on a GPU; elsewhere they run one after the other.

    Work of one number always has the same stream: what is recorded there uses memory that belongs to it (``record``).
    """

    def __init__(self, count: int) -> None:
        """Open as many streams."""
        on_gpu = torch.cuda.is_available()
        self._streams = [torch.cuda.Stream() for _ in range(count)] if on_gpu else []  # type: ignore[no-untyped-call]

    def run(self, works: Mapping[int, Callable[[], Result]]) -> list[Result]:
        """Queue works, by number, and return what each does.

        They come after all that was queued before, and before what is queued later, also where one fails: its memory
        is given to others then.
        """
        if not self._streams:
            return [work() for work in works.values()]
        around, results = torch.cuda.current_stream(), []
        for stream in self._streams:
            stream.wait_stream(around)
        try:
            for number, work in works.items():
                with torch.cuda.stream(self._streams[number % len(self._streams)]):
                    results.append(work())
        finally:
            for stream in self._streams:
                around.wait_stream(stream)
        return results


def record(run: Callable[[], Result], after: torch.cuda.CUDAGraph | None = None) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Record ``run`` after ``warm_up``; return the graph and the result, which every replay writes anew.

    It is recorded on the current stream, unless that is the default one. Matrix products in all graphs of a stream
    share the working memory of cuBLAS: on torch's own stream for recordings, graphs that are replayed at once would.

    Args:
        run: Must read the same memory every time, do the same, and never wait for the device.
        after: A graph that is replayed before this one every time, and never during it: they share memory.
    """
    graph = torch.cuda.CUDAGraph()
    # Other threads go on, such as one that reads photographs into pinned memory.
    pool = after.pool() if after else None
    with torch.cuda.graph(graph, pool=pool, stream=_recordable_stream(), capture_error_mode="thread_local"):
        result = run()
    return graph, result


def _recordable_stream() -> torch.cuda.Stream:
    """Return the current stream, or another one in place of the default one, which cannot be recorded."""
    current = torch.cuda.current_stream()
    return torch.cuda.Stream() if current == torch.cuda.default_stream() else current  # type: ignore[no-untyped-call]
