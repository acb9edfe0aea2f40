"""A checkpoint in plain torch: what a user runs who exports nothing."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from drc_deploy.bench.programs.program_backend import ProgramBackend, ProgramRequest, checkpoint_engine
from drc_deploy.errors import ArtefactError
from drc_deploy.locate import CHECKPOINT_SUFFIX
from drc_deploy.runtime.backends.contract import Pixels, check_batch
from drc_deploy.runtime.backends.pytorch.waiting_threads import wait_as_torch_does
from drc_deploy.runtime.backends.trt.gpu_memory import has_cuda_driver

EAGER, HALF = "eager", "channels-last fp16"


class TorchProgram(ProgramBackend):
    """The network of a checkpoint, called as a module, whole images at a time; on the GPU when torch has one."""

    ways = (EAGER, "channels-last", HALF)
    packages = ("torch",)
    install = "Install it: pip install 'drc-deploy[train]'."
    suffixes = (CHECKPOINT_SUFFIX,)

    def __init__(self, request: ProgramRequest) -> None:
        """Load a checkpoint; the variant is the layout and the precision."""
        wait_as_torch_does()
        import torch

        from drc_deploy.checkpoint import load_checkpoint
        from drc_deploy.models.network import lay_channels_last

        if request.threads is not None:
            torch.set_num_threads(request.threads)
        torch.backends.cudnn.allow_tf32 = False  # as in our engines: float32 means float32
        on_gpu = torch.cuda.is_available()
        self._torch_device = torch.device("cuda" if on_gpu else "cpu")
        self._device = f"torch {torch.cuda.get_device_name() if on_gpu else 'cpu'}"
        self._format = torch.contiguous_format if request.variant == EAGER else torch.channels_last
        network = load_checkpoint(request.path).build_network().eval()
        half = request.variant == HALF
        if half:
            network.cast_body(torch.float16)
        self._network = network.to(self._torch_device)
        if self._format is torch.channels_last:
            lay_channels_last(self._network)
        self.settings = {
            "torch": str(torch.__version__),
            "layout": "NCHW" if request.variant == EAGER else "NHWC",
            "threads": str(torch.get_num_threads()),
            "TF32": "off",
        }
        self._info = dataclasses.replace(
            checkpoint_engine(request.path),
            precision="fp16" if half else "fp32",
            receptive_field=network.receptive_field,
            global_operations=network.global_operations,
            multiple_of=network.multiple_of,
            minimum=network.minimum,
        )

    @classmethod
    def variants(cls) -> Sequence[str]:
        """Leave out half precision on a CPU, which computes it slower than float32."""
        return [way for way in cls.ways if way != HALF or has_cuda_driver()]

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch; see ``Backend.run``."""
        import torch

        check_batch(batch, self._info)
        planes = torch.from_numpy(batch).to(self._torch_device).permute(0, 3, 1, 2)
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
