"""The image that an engine should have given: its checkpoint in torch, in float32, in a process of its own.

On the CPU also where there is a GPU, whose libraries may round to TF32. ``bench`` itself never imports torch.
"""

import os
from functools import partial
from pathlib import Path

from drc_deploy.bench.run.worker import EngineProcess, Session, StartProcess
from drc_deploy.errors import DrcDeployError
from drc_deploy.locate import checkpoint_of_sha256
from drc_deploy.metrics import UInt8Image
from drc_deploy.runtime.tiling.tiles import WHOLE_IMAGE_TILE_PX
from drc_deploy.runtime.upscaler import Upscaler


def open_reference(path: Path, threads: int | None) -> Upscaler:
    """Load a checkpoint for whole images, away from any GPU."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported in this process
    from drc_deploy.runtime.backends.open import open_backend

    return Upscaler(open_backend(path, threads=threads), tile=WHOLE_IMAGE_TILE_PX)


class TorchReferences:
    """Images from torch for any number of engines; those of one checkpoint share its process and its images.

    Attributes:
        notes: SHA-256 of a checkpoint -> its name and how it is computed, or why it has no images.
    """

    def __init__(self, workdir: Path, threads: int | None, start: StartProcess = EngineProcess) -> None:
        """Look for checkpoints in ``workdir`` and among the shipped ones."""
        self._workdir, self._threads, self._start = workdir, threads, start
        self.notes: dict[str, str] = {}
        self._processes: dict[str, EngineProcess] = {}
        self._images: dict[tuple[str, str], UInt8Image] = {}

    def image(self, sha256: str, name: str, lr: UInt8Image) -> UInt8Image | None:
        """Return the output for ``lr``, the image ``name``, of the checkpoint of this SHA-256; None where unknown."""
        if sha256 not in self.notes:
            self._open(sha256)
        if (sha256, name) not in self._images and sha256 in self._processes:
            try:
                self._images[sha256, name] = self._processes[sha256].ask(Session.upscale, lr)
            except DrcDeployError as error:
                self.notes[sha256] = f"unavailable: {error.message}"
                self._processes.pop(sha256).close()
        return self._images.get((sha256, name))

    def _open(self, sha256: str) -> None:
        path = checkpoint_of_sha256(sha256, self._workdir)
        if path is None:
            what = f"the checkpoint (SHA-256 {sha256[:12]}...)" if sha256 else "a checkpoint that the engine names"
            self.notes[sha256] = f"unavailable: {what} is neither in {self._workdir} nor among the shipped ones"
            return
        self.notes[sha256] = f"{path.name} with torch in float32 on the CPU"
        try:
            self._processes[sha256] = self._start(partial(open_reference, path, self._threads), None)
        except DrcDeployError as error:
            self.notes[sha256] = f"unavailable: {error.message}"

    def close(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.close()
