"""The image that an engine should have given: its checkpoint in torch, in float32, in a process of its own.

On the CPU also where there is a GPU, whose libraries may round to TF32. ``bench`` itself never imports torch.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.bench.measure.fidelity import DifferenceSum, TorchAgreement
from drc_deploy.bench.run.worker import EngineProcess, Session, StartProcess
from drc_deploy.errors import DrcDeployError
from drc_deploy.locate import checkpoint_of_sha256
from drc_deploy.metrics import UInt8Image
from drc_deploy.runtime.upscaler import Upscaler

WHOLE_IMAGE_TILE_PX = 1 << 16
"""Larger than any image."""


@dataclass(frozen=True, slots=True)
class OpenReference:
    """Loads a checkpoint for whole images, away from any GPU."""

    path: Path
    threads: int | None

    def __call__(self) -> Upscaler:
        """Load it."""
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported in this process
        from drc_deploy.runtime.backends.open import open_backend

        return Upscaler(open_backend(self.path, threads=self.threads), tile=WHOLE_IMAGE_TILE_PX)


class _Network:
    """One checkpoint: its images so far, or why there are none."""

    def __init__(self, sha256: str, workdir: Path, threads: int | None, start: StartProcess) -> None:
        self.images: dict[str, UInt8Image] = {}
        self.process: EngineProcess | None = None
        path = checkpoint_of_sha256(sha256, workdir)
        if path is None:
            what = f"the checkpoint (SHA-256 {sha256[:12]}...)" if sha256 else "a checkpoint that the engine names"
            self.note = f"unavailable: {what} is neither in {workdir} nor among the shipped ones"
            return
        self.note = f"{path.name} with torch in float32 on the CPU"
        try:
            self.process = start(OpenReference(path, threads), None)
        except DrcDeployError as error:
            self.note = f"unavailable: {error.message}"

    def image(self, name: str, lr: UInt8Image) -> UInt8Image | None:
        """Return the upscaled image; None where torch cannot."""
        if name not in self.images and self.process is not None:
            try:
                self.images[name] = self.process.ask(Session.upscale, lr)
            except DrcDeployError as error:
                self.note = f"unavailable: {error.message}"
                self.close()
        return self.images.get(name)

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.close()
            self.process = None


class TorchReferences:
    """Images from torch for any number of engines; those of one checkpoint share them."""

    def __init__(self, workdir: Path, threads: int | None, start: StartProcess = EngineProcess) -> None:
        """Look for checkpoints in ``workdir`` and among the shipped ones."""
        self._workdir, self._threads, self._start = workdir, threads, start
        self._networks: dict[str, _Network] = {}

    def image(self, sha256: str, name: str, lr: UInt8Image) -> UInt8Image | None:
        """Return the output for ``lr``, the image ``name``, of the checkpoint of this SHA-256; None where unknown."""
        return self._network(sha256).image(name, lr)

    def agreement(self, sha256: str, found: DifferenceSum) -> TorchAgreement:
        """Judge the differences that were added up for an engine of the checkpoint."""
        note = self._network(sha256).note
        return TorchAgreement(found.total() if found.images else None, found.images, note)

    def _network(self, sha256: str) -> _Network:
        if sha256 not in self._networks:
            self._networks[sha256] = _Network(sha256, self._workdir, self._threads, self._start)
        return self._networks[sha256]

    def close(self) -> None:
        """End all processes."""
        for network in self._networks.values():
            network.close()
