"""A checkpoint converted with pnnx, in ncnn on the CPU, in float32.

``python -m drc_deploy.bench.programs.ncnn_program CHECKPOINT FOLDER`` converts: a process of its own, because torch and
the converter would count in the memory of the one that is measured.
"""

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from drc_deploy.bench.machine.commands import run_command
from drc_deploy.bench.programs.program_backend import ProgramBackend, ProgramRequest, checkpoint_engine
from drc_deploy.errors import ArtefactError
from drc_deploy.files import scratch_folder
from drc_deploy.locate import CHECKPOINT_SUFFIX
from drc_deploy.runtime.backends.contract import Pixels, check_batch
from drc_deploy.runtime.memory.host import usable_cores

CONVERTER_TIMEOUT_S = 300.0
SIDES_PX = ((64, 64), (48, 72))
"""Two sizes, from which the converter sees that any is to be taken; larger where the network takes no such sides."""
_HALF_OPTIONS = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage")


class NcnnProgram(ProgramBackend):
    """ncnn over what pnnx makes of a checkpoint; Winograd convolutions as ncnn chooses them."""

    ways = ("float32",)
    packages = ("ncnn", "pnnx", "torch")
    install = "Install it: pip install ncnn pnnx torch."
    suffixes = (CHECKPOINT_SUFFIX,)
    _device = "ncnn CPU"

    def __init__(self, request: ProgramRequest) -> None:
        """Convert and load a checkpoint, for as many threads as cores may be used where none are given."""
        import ncnn

        self._ncnn, self._threads = ncnn, request.threads or usable_cores()
        self._info = checkpoint_engine(request.path)
        with scratch_folder() as folder:
            _convert(request.path, folder)
            self._net = self._load(folder)
        self.settings = {
            "ncnn": metadata.version("ncnn"),
            "pnnx": metadata.version("pnnx"),
            "threads": str(self._threads),
            "precision": "float32; fp16 and bf16 storage off",
            "load time": "with the conversion",
        }

    def _load(self, folder: Path) -> Any:
        net = self._ncnn.Net()
        net.opt.num_threads = self._threads
        for option in _HALF_OPTIONS:
            setattr(net.opt, option, False)
        # Zero means that it was read.
        if net.load_param(str(folder / "net.ncnn.param")) or net.load_model(str(folder / "net.ncnn.bin")):
            raise ArtefactError("ncnn cannot load what pnnx made of the checkpoint.")
        return net

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch of one; see ``Backend.run``."""
        check_batch(batch, self._info)
        extractor = self._net.create_extractor()
        planes = np.ascontiguousarray(batch[0].transpose(2, 0, 1))  # lives until the end: a Mat only points at it
        extractor.input("in0", self._ncnn.Mat(planes))
        failed, output = extractor.extract("out0")
        if failed:
            raise ArtefactError(f"ncnn could not run {self._info.model} on an input of {batch.shape}.")
        upscaled = np.array(output)
        if upscaled.ndim != 3:
            raise ArtefactError(f"ncnn gave {upscaled.shape} for an image of {batch.shape[1:]}.")
        return np.ascontiguousarray(upscaled.transpose(1, 2, 0)[None])

    def close(self) -> None:
        """Drop the network, which frees its memory."""
        self._net = None


def _convert(path: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "drc_deploy.bench.programs.ncnn_program", str(path), str(folder)]
    path_of_packages = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        run_command(command, timeout_s=CONVERTER_TIMEOUT_S, error=ArtefactError, env=path_of_packages)
    except ArtefactError as error:
        raise ArtefactError(f"pnnx cannot convert {path}: {error.message}") from error


def main(checkpoint: Path, folder: Path) -> None:
    """Trace the network and write ``net.ncnn.param`` and ``.bin`` with pnnx, which is ncnn's way from torch."""
    import pnnx
    import torch

    from drc_deploy.checkpoint import load_checkpoint

    network = load_checkpoint(checkpoint).build_network().eval()
    # One image instead of one at each scale.
    network.forward = network.upscale  # type: ignore[assignment, method-assign]
    first, second = (255 * torch.rand(1, 3, *map(network.taken_side, sides)) for sides in SIDES_PX)
    os.chdir(folder)  # it also writes where it is
    # fp16=False: it would round the weights.
    pnnx.export(network, "net.pt", (first,), inputs2=(second,), check_trace=False, fp16=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
