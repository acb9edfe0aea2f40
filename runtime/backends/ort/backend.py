"""Runs an exported ONNX file with ONNX Runtime: on the CPU everywhere, with CUDA or OpenVINO where the package can."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from drc_deploy.engine_info import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, EngineInfo
from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.contract import Backend, Pixels, check_batch
from drc_deploy.runtime.backends.ort.sessions import OnnxSessions

_TENSOR_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime over a file that ``drc-deploy export`` wrote."""

    def __init__(self, path: Path, *, threads: int | None = None, cpu_only: bool = False) -> None:
        """Load ``path``; see ``open_backend``. ``cpu_only``: take the CPU provider."""
        self._sessions = OnnxSessions(path, threads=threads, cpu_only=cpu_only)
        self._info = read_info(self._sessions.session, path)
        self._check_tensors(path)

    def _check_tensors(self, path: Path) -> None:
        """Refuse a graph whose input and output are not what its metadata says."""
        session = self._sessions.session
        inputs = [(value.name, value.type) for value in session.get_inputs()]
        outputs = [(value.name, value.type) for value in session.get_outputs()]
        tensor = _TENSOR_TYPES[self._info.io_dtype]
        if inputs != [(INPUT_NAME, tensor)] or outputs != [(OUTPUT_NAME, tensor)]:
            raise ArtefactError(
                f"{path} takes {inputs} and gives {outputs}, which is not what its metadata says.",
                "Export it again with `drc-deploy export`.",
            )
        shape = session.get_inputs()[0].shape
        if not _takes_images(shape, self._info.tile):
            raise ArtefactError(
                f"{path} takes an input of shape {shape}, which is not what its metadata says.",
                "Export it again with `drc-deploy export`.",
            )

    @property
    def info(self) -> EngineInfo:
        """What the file says about itself."""
        return self._info

    @property
    def device(self) -> str:
        """The provider that the session really uses."""
        return self._sessions.device

    @property
    def preferred_batch(self) -> int:
        """One on a CPU, where more only cost memory."""
        return self._batch or (1 if self._sessions.on_cpu else self._info.max_batch)

    @property
    def workers(self) -> int:
        """Tiles under way at a time: one per core on a CPU; on a GPU one is computed while others are copied."""
        return self._sessions.workers

    def use_workers(self, count: int) -> None:
        """See ``Backend.use_workers``."""
        self._sessions.workers = count

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch; see ``Backend.run``."""
        return self._sessions.run([OUTPUT_NAME], self._feeds(batch))[0]

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        """Upscale many batches, on a CPU one per core at a time; see ``Backend.stream``."""
        results = self._sessions.stream([OUTPUT_NAME], map(self._feeds, batches))
        try:
            yield from (result for (result,) in results)
        finally:
            results.close()

    def _feeds(self, batch: Pixels) -> dict[str, Pixels]:
        check_batch(batch, self._info)
        return {INPUT_NAME: batch}

    def give_back(self) -> None:
        """See ``Backend.give_back``."""
        self._sessions.give_back()

    def close(self) -> None:
        """Free the network."""
        self._sessions.close()


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
