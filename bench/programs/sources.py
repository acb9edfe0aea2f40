"""From an engine of ours to the file from which another program takes the same network."""

from collections.abc import Iterator
from pathlib import Path

from drc_deploy.bench.programs.supported import ProgramInput
from drc_deploy.engine_info import EngineInfo, read_sidecar
from drc_deploy.errors import ArtefactError
from drc_deploy.files import sha256_of
from drc_deploy.locate import CHECKPOINT_SUFFIX, SHIPPED


def find_program_input(source: ProgramInput, engine: Path, info: EngineInfo, workdir: Path) -> Path:
    """Find the file that another program runs.

    Raises:
        ArtefactError: there is none.
    """
    if source == "checkpoint":
        return _find_checkpoint(engine, info, workdir)
    if engine.suffix == ".onnx" or (engine.suffix == ".plan" and source == "plan or onnx"):
        return engine
    sidecar = read_sidecar(engine) if engine.suffix == ".plan" else None
    onnx = engine.with_name(sidecar.onnx_file) if sidecar else None
    if onnx is None or not onnx.is_file():
        raise ArtefactError(
            f"it needs an ONNX, and {engine} is none and has none next to it.",
            "Make one with `drc-deploy export`, and name that.",
        )
    return onnx


def _find_checkpoint(engine: Path, info: EngineInfo, workdir: Path) -> Path:
    """Find a checkpoint by its content: names say little."""
    for path in _checkpoints(engine, workdir):
        if sha256_of(path) == info.checkpoint_sha256:
            return path
    raise ArtefactError(
        f"the checkpoint that {engine} was exported from (SHA-256 {info.checkpoint_sha256[:12] or 'unknown'}...) is "
        f"neither next to it, nor in {workdir}, nor a shipped one.",
        f"Copy it into {workdir}.",
    )


def _checkpoints(engine: Path, workdir: Path) -> Iterator[Path]:
    if engine.suffix == CHECKPOINT_SUFFIX:
        yield engine
    for folder in dict.fromkeys((engine.parent, workdir, SHIPPED)):
        yield from sorted(path for path in folder.glob(f"*{CHECKPOINT_SUFFIX}") if path.is_file())
