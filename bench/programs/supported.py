"""Which other programs `bench --against` knows, and the file of ours that each takes a network from."""

from pathlib import Path

from drc_deploy.bench.programs.ncnn_program import NcnnProgram
from drc_deploy.bench.programs.openvino_program import OpenVinoProgram
from drc_deploy.bench.programs.program_backend import ProgramBackend, ProgramRequest
from drc_deploy.bench.programs.torch_program import TorchProgram
from drc_deploy.bench.programs.trtexec_program import TrtexecProgram
from drc_deploy.engine_info import EngineInfo, read_sidecar
from drc_deploy.errors import ArtefactError
from drc_deploy.locate import CHECKPOINT_SUFFIX, checkpoint_of_sha256
from drc_deploy.runtime.upscaler import Upscaler

LIBRARIES: dict[str, type[ProgramBackend]] = {
    "torch": TorchProgram,
    "openvino": OpenVinoProgram,
    "ncnn": NcnnProgram,
    "trtexec": TrtexecProgram,
}
"""What was given to ``--against`` -> the program."""


def open_program(library: str, request: ProgramRequest) -> Upscaler:
    """Load a network in another program, inside the child process."""
    return Upscaler(LIBRARIES[library](request))


def find_program_input(library: str, engine: Path, info: EngineInfo, workdir: Path) -> Path:
    """Find the file from which another program takes the network of ``engine``.

    Raises:
        ArtefactError: there is none.
    """
    suffixes = LIBRARIES[library].suffixes
    if engine.suffix in suffixes:
        return engine
    if CHECKPOINT_SUFFIX in suffixes:
        return _find_checkpoint(engine, info.checkpoint_sha256, workdir)
    sidecar = read_sidecar(engine) if engine.suffix == ".plan" else None
    onnx = engine.with_name(sidecar.onnx_file) if sidecar else None
    if onnx is None or not onnx.is_file():
        raise ArtefactError(
            f"it needs an ONNX, and {engine} is none and has none next to it.",
            "Make one with `drc-deploy export`, and name that.",
        )
    return onnx


def _find_checkpoint(engine: Path, sha256: str, workdir: Path) -> Path:
    """Find a checkpoint by its content: names say little."""
    path = checkpoint_of_sha256(sha256, workdir) or checkpoint_of_sha256(sha256, engine.parent)
    if path is None:
        raise ArtefactError(
            f"the checkpoint that {engine} was exported from (SHA-256 {sha256[:12] or 'unknown'}...) is neither next "
            f"to it, nor in {workdir}, nor a shipped one.",
            f"Copy it into {workdir}.",
        )
    return path
