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
from drc_deploy.runtime.upscaler import Upscaler

WHOLE_IMAGE_TILE_PX = 1 << 16
"""Larger than any image."""


def open_reference(path: Path, threads: int | None) -> Upscaler:
    """Load a checkpoint for whole images, away from any GPU."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported in this process
    from drc_deploy.runtime.backends.open import open_backend

    return Upscaler(open_backend(path, threads=threads), tile=WHOLE_IMAGE_TILE_PX)


class TorchReference:
    """One checkpoint.

    Attributes:
        note: Which checkpoint, and how it is computed; or why there are no images.
    """

    def __init__(self, sha256: str, workdir: Path, threads: int | None, start: StartProcess) -> None:
        self._images: dict[str, UInt8Image] = {}
        self._process: EngineProcess | None = None
        path = checkpoint_of_sha256(sha256, workdir)
        if path is None:
            what = f"the checkpoint (SHA-256 {sha256[:12]}...)" if sha256 else "a checkpoint that the engine names"
            self.note = f"unavailable: {what} is neither in {workdir} nor among the shipped ones"
            return
        self.note = f"{path.name} with torch in float32 on the CPU"
        try:
            self._process = start(partial(open_reference, path, threads), None)
        except DrcDeployError as error:
            self.note = f"unavailable: {error.message}"

    def image(self, name: str, lr: UInt8Image) -> UInt8Image | None:
        """Return the output for ``lr``, the image ``name``; None where torch cannot compute it."""
        if name not in self._images and self._process is not None:
            try:
                self._images[name] = self._process.ask(Session.upscale, lr)
            except DrcDeployError as error:
                self.note = f"unavailable: {error.message}"
                self.close()
        return self._images.get(name)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
            self._process = None


class TorchReferences:
    """References of any number of engines; those of one checkpoint share one."""

    def __init__(self, workdir: Path, threads: int | None, start: StartProcess = EngineProcess) -> None:
        """Look for checkpoints in ``workdir`` and among the shipped ones."""
        self._workdir, self._threads, self._start = workdir, threads, start
        self._references: dict[str, TorchReference] = {}

    def of(self, sha256: str) -> TorchReference:
        """Return the reference of the checkpoint with this SHA-256."""
        if sha256 not in self._references:
            self._references[sha256] = TorchReference(sha256, self._workdir, self._threads, self._start)
        return self._references[sha256]

    def close(self) -> None:
        """End all processes."""
        for reference in self._references.values():
            reference.close()
