"""Which other programs `bench --against` knows, in which ways each runs a network, and what it needs."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from drc_deploy.bench.programs import trtexec_program
from drc_deploy.bench.programs.ncnn_program import NcnnProgram
from drc_deploy.bench.programs.openvino_program import Hint, OpenVinoProgram
from drc_deploy.bench.programs.program_backend import ProgramBackend
from drc_deploy.bench.programs.torch_program import Layout, TorchProgram
from drc_deploy.runtime.backends.trt.gpu_memory import has_cuda_driver
from drc_deploy.runtime.upscaler import Upscaler

ProgramInput = Literal["checkpoint", "onnx", "plan or onnx"]


@dataclass(frozen=True, slots=True)
class ProgramRequest:
    """What a child process opens."""

    path: Path
    threads: int | None
    size: tuple[int, int]
    """Height and width of the image that latency is measured on."""


@dataclass(frozen=True, slots=True)
class OtherProgram:
    """Another program."""

    packages: tuple[str, ...]
    """What must be importable."""
    install: str
    """How to get it, in a sentence."""
    source: ProgramInput
    """The file of ours whose network it runs."""
    variants: Callable[[], Sequence[str]]
    open: Callable[[str, ProgramRequest], ProgramBackend]
    """Loads a network in the given variant."""


@dataclass(frozen=True, slots=True)
class OpenProgram:
    """Loads a network in another program, inside the child process."""

    library: str
    variant: str
    request: ProgramRequest

    def __call__(self) -> Upscaler:
        """Load it."""
        return Upscaler(LIBRARIES[self.library].open(self.variant, self.request))


def _torch_variants() -> Sequence[str]:
    """Half precision on GPUs only: a CPU computes it slower than float32."""
    return get_args(Layout) if has_cuda_driver() else [name for name in get_args(Layout) if "fp16" not in name]


def _open_torch(variant: str, request: ProgramRequest) -> ProgramBackend:
    layout: Layout = next(name for name in get_args(Layout) if name == variant)
    return TorchProgram(request.path, layout, request.threads)


def _open_openvino(variant: str, request: ProgramRequest) -> ProgramBackend:
    hint: Hint = next(name for name in get_args(Hint) if name == variant)
    return OpenVinoProgram(request.path, hint, request.threads)


def _open_ncnn(_variant: str, request: ProgramRequest) -> ProgramBackend:
    return NcnnProgram(request.path, request.threads)


def _open_trtexec(_variant: str, request: ProgramRequest) -> ProgramBackend:
    program = trtexec_program.find_program() or trtexec_program.PROGRAM
    return trtexec_program.TrtexecProgram(request.path, request.size, program)


LIBRARIES = {
    "torch": OtherProgram(
        packages=("torch",),
        install="Install it: pip install 'drc-deploy[train]'.",
        source="checkpoint",
        variants=_torch_variants,
        open=_open_torch,
    ),
    "openvino": OtherProgram(
        packages=("openvino",),
        install="Install it: pip install openvino.",
        source="onnx",
        variants=lambda: get_args(Hint),
        open=_open_openvino,
    ),
    "ncnn": OtherProgram(
        packages=("ncnn", "pnnx", "torch"),
        install="Install it: pip install ncnn pnnx torch.",
        source="checkpoint",
        variants=lambda: ("float32",),
        open=_open_ncnn,
    ),
    "trtexec": OtherProgram(
        packages=(),
        install="It comes with NVIDIA's TensorRT packages and with JetPack, not with pip; put it in the PATH.",
        source="plan or onnx",
        variants=lambda: ("fixed size",),
        open=_open_trtexec,
    ),
}
"""What was given to ``--against`` -> how it is measured."""


def missing_parts(library: str) -> list[str]:
    """Return what of a library is not installed here."""
    missing = [name for name in LIBRARIES[library].packages if importlib.util.find_spec(name) is None]
    return ["trtexec"] if library == "trtexec" and trtexec_program.find_program() is None else missing
