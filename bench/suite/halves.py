"""The half precisions of a checkpoint that are worth measuring: those that the hardware computes in itself."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from drc_deploy.bench.report.records import LeftOut
from drc_deploy.engine_info import Precision
from drc_deploy.proc_files import cpu_flags

_NATIVE_BF16 = frozenset({"avx512_bf16", "amx_bf16"})
"""As Linux spells them. Torch itself says yes to every processor with AVX-512; many of them only emulate bfloat16."""


@dataclass(frozen=True, slots=True)
class Halves:
    """Which half precisions of a checkpoint are measured, and why the others are not."""

    precisions: tuple[Precision, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


NO_HALVES = Halves()
"""Where there is no checkpoint."""


def ask_torch() -> Halves:
    """Ask torch, in a process of its own: the question starts CUDA, and `bench` itself never imports torch."""
    # What torch prints goes to the error output: standard output belongs to the result.
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=os.dup2, initargs=(2, 1)) as pool:
        try:
            return pool.submit(find_halves).result()
        except RuntimeError:  # of CUDA; also what the pool raises where the process ended
            return _none("torch fails when it is asked")


def find_halves() -> Halves:
    """Return those of the device that `upscale` would take."""
    try:
        import torch

        from drc_deploy.torch_gpu import has_bf16
    except (ImportError, OSError):  # OSError: a library of it is broken
        return _none("torch cannot be imported")
    if torch.cuda.is_available():
        if has_bf16():
            return Halves(("fp16", "bf16"))
        return Halves(("fp16",), (LeftOut("checkpoints in bf16", "this GPU does not compute in bfloat16"),))
    fp16 = LeftOut("checkpoints in fp16", "torch has fast kernels for it on GPUs only")
    if _NATIVE_BF16 & cpu_flags() and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return Halves(("bf16",), (fp16,))
    bf16 = LeftOut("checkpoints in bf16", "torch has no fast kernels for it on this processor")
    return Halves((), (fp16, bf16))


def _none(why: str) -> Halves:
    return Halves((), (LeftOut("checkpoints in half precision", why),))
