"""The folder in which one training run is kept: its options, journal, state and checkpoints."""

import shutil
from pathlib import Path

from drc_deploy.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from drc_deploy.errors import ArtefactError
from drc_deploy.files import check_writable
from drc_deploy.locate import CHECKPOINT_SUFFIX
from drc_deploy.train.loop import distributed
from drc_deploy.train.loop.journal import LOG_FILE, RUN_SUFFIX, TENSORBOARD_FOLDER
from drc_deploy.train.loop.losses import dual_design
from drc_deploy.train.loop.parts import remove_with_parts
from drc_deploy.train.loop.run_options import MANY_STEPS
from drc_deploy.train.loop.trainer import Trainer

CHECKPOINTS = "checkpoints"
"""Folder of those on the way to the result."""


def run_path(output: Path) -> Path:
    """Return the folder of the run that makes ``output``."""
    return output.parent / f"{output.stem}{RUN_SUFFIX}"


def checkpoint_at(output: Path, step: int) -> Path:
    """Return the checkpoint of ``Supervision.keep_at`` after update ``step``."""
    return run_path(output) / CHECKPOINTS / f"at-{step}{CHECKPOINT_SUFFIX}"


def state_of(output: Path) -> Path:
    """Return the file of the unfinished work on ``output``."""
    return run_path(output) / "state.safetensors"


class RunFolder:
    """``NAME.run/`` next to the result ``NAME.safetensors``.

    Unfinished work in it is kept unless ``restart``; what a finished run left there makes room for the new one.

    Raises:
        OutputError: it is not writable, which is better known before a long run.
    """

    def __init__(self, output: Path, *, restart: bool) -> None:
        self.path = run_path(output)
        self.config = self.path / "config.toml"
        self.state = state_of(output)
        self.best = self.path / f"best{CHECKPOINT_SUFFIX}"
        self._output, self._checkpoints = output, self.path / CHECKPOINTS
        if distributed.is_main():
            check_writable(self.path)
            if restart or not self.state.exists():
                self._clear()
        distributed.wait_for_all()

    def _clear(self) -> None:
        remove_with_parts(self.state)
        for file in (self.config, self.best, self.path / LOG_FILE):
            file.unlink(missing_ok=True)
        for folder in (self._checkpoints, self.path / TENSORBOARD_FOLDER):
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, trainer: Trainer, psnr: float | None, *, keep: int) -> None:
        """Write a checkpoint of the weights that the trainer holds now, and delete all but the ``keep`` latest."""
        if not keep:
            return
        digits = len(str(trainer.options.steps or MANY_STEPS))
        name = f"step-{trainer.step:0{digits}}{CHECKPOINT_SUFFIX}"
        save_checkpoint(self._checkpoints / name, _checkpoint_of(trainer, psnr), half=trainer.options.half)
        for old in sorted(self._checkpoints.glob(f"step-*{CHECKPOINT_SUFFIX}"), key=_step_of)[:-keep]:
            old.unlink()

    def keep_at(self, trainer: Trainer) -> None:
        """Write a checkpoint of the weights that the trainer holds now, which stays."""
        save_checkpoint(checkpoint_at(self._output, trainer.step), _checkpoint_of(trainer, None))

    def check_best(self) -> None:
        """Read the best weights so far: a run of days that goes on with them must not fail at its end.

        Raises:
            ArtefactError: they are missing or damaged.
        """
        try:
            load_checkpoint(self.best)
        except ArtefactError as error:
            raise ArtefactError(error.message, "Copy the file again, or add --restart to begin anew.") from error

    def keep_best(self, trainer: Trainer, psnr: float) -> None:
        """Write the weights that the trainer holds now as the best so far."""
        save_checkpoint(self.best, _checkpoint_of(trainer, psnr), half=trainer.options.half)


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _checkpoint_of(trainer: Trainer, psnr: float | None) -> Checkpoint:
    """Take the weights that the trainer holds now, on the way to the result."""
    provenance = {"stage": "unfinished", "step": trainer.step, "validation_psnr": psnr}
    design = dual_design(trainer.options.dual)
    return Checkpoint.of(trainer.network, trainer.duals or None, provenance, dual_design=design)
