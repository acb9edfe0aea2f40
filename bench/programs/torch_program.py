"""A checkpoint in plain torch: what a user runs who exports nothing."""

from pathlib import Path
from typing import Literal

import numpy as np

from drc_deploy.bench.programs.program_backend import ProgramBackend
from drc_deploy.engine_info import EngineInfo
from drc_deploy.errors import ArtefactError
from drc_deploy.files import sha256_of
from drc_deploy.runtime.backends.contract import Pixels, check_batch

Layout = Literal["eager", "channels-last", "channels-last fp16"]


class TorchProgram(ProgramBackend):
    """The network of a checkpoint, called as a module, whole images at a time; on the GPU when torch has one."""

    def __init__(self, path: Path, layout: Layout, threads: int | None) -> None:
        """Load ``path``; ``threads`` None: as many as torch takes."""
        import torch

        from drc_deploy.checkpoint import load_checkpoint

        if threads is not None:
            torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = False  # as in our engines: float32 means float32
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._format = torch.contiguous_format if layout == "eager" else torch.channels_last
        network = load_checkpoint(path).build_network().eval()
        half = layout == "channels-last fp16"
        if half:
            network.cast_body(torch.float16)
        # The types of `to` do not know its keyword for the memory format.
        self._network = network.to(self._device).to(memory_format=self._format)  # type: ignore[call-overload]
        self._settings = {
            "torch": str(torch.__version__),
            "layout": "NCHW" if layout == "eager" else "NHWC",
            "threads": str(torch.get_num_threads()),
            "TF32": "off",
        }
        self._info = EngineInfo(
            model=network.spec.name,
            scale=network.scale,
            precision="fp16" if half else "fp32",
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
        import torch

        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"
        return f"torch {name}"

    @property
    def settings(self) -> dict[str, str]:
        """See ``ProgramBackend``."""
        return self._settings

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch; see ``Backend.run``."""
        import torch

        check_batch(batch, self._info)
        planes = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2)
        try:
            with torch.inference_mode():
                upscaled = self._network.upscale(planes.contiguous(memory_format=self._format))
        except RuntimeError as error:
            raise ArtefactError(
                f"torch could not run {self._info.model} on an input of {batch.shape}: {error}.",
                "If memory ran out, give a smaller --size.",
            ) from error
        return np.ascontiguousarray(upscaled.permute(0, 2, 3, 1).cpu().numpy())

    def close(self) -> None:
        """Nothing to do: torch frees the weights with this object."""
