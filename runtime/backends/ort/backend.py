"""Runs an exported ONNX file with ONNX Runtime: on the CPU everywhere, with CUDA or OpenVINO where the package can."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drc_deploy.engine_info import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, EngineInfo
from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.graph_backend import GraphBackend
from drc_deploy.runtime.backends.ort.sessions import OnnxSessions

_TENSOR_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}


class OnnxRuntimeBackend(GraphBackend):
    """ONNX Runtime over a file that ``drc-deploy export`` wrote."""

    def __init__(self, path: Path, *, threads: int | None = None, cpu_only: bool = False) -> None:
        """Load ``path``; see ``open_backend``. ``cpu_only``: take the CPU provider."""
        self._sessions = OnnxSessions(path, threads=threads, cpu_only=cpu_only)
        super().__init__(self._sessions, read_info(self._sessions.session, path))
        _check_tensors(self._sessions.session, self.info, path)

    @property
    def preferred_batch(self) -> int:
        """One on a CPU, where more only cost memory."""
        return self._batch or (1 if self._sessions.on_cpu else self.info.max_batch)


def _check_tensors(session: Any, info: EngineInfo, path: Path) -> None:
    """Refuse a graph whose input and output are not what its metadata says."""
    inputs = [(value.name, value.type) for value in session.get_inputs()]
    outputs = [(value.name, value.type) for value in session.get_outputs()]
    tensor = _TENSOR_TYPES[info.io_dtype]
    shape = session.get_inputs()[0].shape
    wrong = ""
    if inputs != [(INPUT_NAME, tensor)] or outputs != [(OUTPUT_NAME, tensor)]:
        wrong = f"takes {inputs} and gives {outputs}"
    elif not _takes_images(shape, info.tile):
        wrong = f"takes an input of shape {shape}"
    if wrong:
        raise ArtefactError(
            f"{path} {wrong}, which is not what its metadata says.", "Export it again with `drc-deploy export`."
        )


def _takes_images(shape: Sequence[Any], tile: tuple[int, int] | None) -> bool:
    """Return whether an input of ``shape``, with integers only where it is fixed, takes (N, H, W, 3) tiles."""
    if len(shape) != 4 or (isinstance(shape[3], int) and shape[3] != 3):
        return False
    sides = tuple(shape[1:3])
    return sides == tile or not any(isinstance(side, int) for side in sides)


def read_info(session: Any, path: Path) -> EngineInfo:
    """Read the metadata of a loaded file.

    Raises:
        ArtefactError: there is none, or it is damaged.
    """
    try:
        metadata = session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError as error:
        raise ArtefactError(
            f"{path} is damaged: its metadata are no text.", "Copy it again, or export it again."
        ) from error
    if METADATA_KEY not in metadata:
        raise ArtefactError(
            f"{path} is an ONNX file of another program.", "Make one with `drc-deploy export CHECKPOINT`."
        )
    return EngineInfo.from_json(metadata[METADATA_KEY], str(path))
