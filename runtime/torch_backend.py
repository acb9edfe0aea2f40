"""Runs a checkpoint with torch: for comparing, and where nothing was exported yet."""

from pathlib import Path

import numpy as np

from drc_deploy.engine_info import EngineInfo
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.files import sha256_of
from drc_deploy.runtime.backend import Backend, Pixels, check_batch

try:
    import torch
except ImportError as error:
    raise MissingDependencyError(
        "running a checkpoint needs torch, which is not installed.",
        "Install it: pip install 'drc-deploy[train]', or upscale with an exported .onnx or .plan.",
    ) from error

from drc_deploy.checkpoint import load_checkpoint


class TorchBackend(Backend):
    """The network of a checkpoint, in float32 and any size; on the GPU when torch has one."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = load_checkpoint(path).build_network()
        # The types of `to` do not know its keyword for the memory format.
        self._network = network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._info = EngineInfo(
            model=network.spec.name,
            scale=network.scale,
            precision="fp32",
            io_dtype="float32",
            tile=None,
            max_batch=1,
            receptive_field=network.receptive_field,
            global_operations=network.global_operations,
            params=network.parameter_count,
            widths=tuple(network.widths),
            checkpoint_sha256=sha256_of(path),
        )

    @property
    def info(self) -> EngineInfo:
        """What the checkpoint holds."""
        return self._info

    @property
    def device(self) -> str:
        """``torch cpu``, or ``torch`` and the name of the GPU."""
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"
        return f"torch {name}"

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch; see ``Backend.run``."""
        check_batch(batch, self._info)
        planes = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device).permute(0, 3, 1, 2)
        try:
            with torch.inference_mode():
                upscaled = self._network.upscale(planes.contiguous(memory_format=torch.channels_last))
        except RuntimeError as error:
            raise ArtefactError(
                f"torch could not run {self._info.model} on an input of {batch.shape}: {error}.",
                "If memory ran out, give a smaller --tile.",
            ) from error
        result: Pixels = upscaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return result

    def close(self) -> None:
        """Nothing to do: torch frees the weights with this object."""
