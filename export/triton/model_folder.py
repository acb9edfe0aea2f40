"""``DIR/NAME``, a network as a model in a repository of Triton's: it appears whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from drc_deploy.engine_info import read_onnx_info, read_sidecar
from drc_deploy.errors import OutputError
from drc_deploy.export.staging import staging_folder
from drc_deploy.export.triton.config import model_config
from drc_deploy.files import only_maker, write_bytes, write_text

_CONFIG, _VERSION = "config.pbtxt", "1"
_WRITTEN = {_CONFIG, _VERSION, f"{_VERSION}/model.onnx", f"{_VERSION}/model.plan"}


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where a model is written: ``config.pbtxt``, and the network in ``1/``, the only version."""

    path: Path
    """``DIR/NAME``."""
    overwrite: bool = False
    """Whether it replaces a model that an export has written there."""

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep other exports from this folder while the block runs, which may take minutes.

        Raises:
            OutputError: it is there and stays, or ``DIR`` cannot be written to.
        """
        with only_maker(self.path):
            self._check()
            yield

    def _check(self) -> None:
        if not os.path.lexists(self.path):
            return
        if not self.overwrite:
            raise OutputError(f"{self.path} exists already.", "Give --overwrite, or another name with -o.")
        # Other versions and files are work of the user, which no export could make again.
        if other := self._not_ours():
            raise OutputError(
                f"{self.path} is not as an export writes it: {other}.",
                "Move it away, or give another name with -o.",
            )

    def _not_ours(self) -> str:
        if self.path.is_symlink() or not self.path.is_dir():
            return "it is no folder"
        found = sorted(path.relative_to(self.path).as_posix() for path in self.path.rglob("*"))
        return next((f"it holds {name}" for name in found if name not in _WRITTEN), "")

    def write(self, onnx: Path, plan: Path | None = None) -> None:
        """Write the model of ``onnx``, an exported network of 8-bit pixels, or of the plan that was built from it.

        Raises:
            ArtefactError: a file is damaged.
            OutputError: the disk is full.
        """
        info = read_onnx_info(onnx)
        config = partial(model_config, self.path.name, one_at_a_time=info.tile is not None and info.max_batch == 1)
        if plan is None:
            self._write(onnx, config(info, "onnxruntime_onnx"))
            return
        sidecar = read_sidecar(plan)
        assert sidecar, "an export writes one next to every plan"
        self._write(plan, config(sidecar.engine, "tensorrt_plan", dla_core=sidecar.options.dla_core))

    def _write(self, network: Path, config: str) -> None:
        # Inside DIR, for only there a rename is sure to be possible. A server that looks there now and then may meet
        # this folder, and logs that it is no model.
        with staging_folder(self.path.parent) as staging:
            made, replaced = staging / "made", staging / "replaced"
            write_bytes(made / _VERSION / f"model{network.suffix}", network.read_bytes())
            write_text(made / _CONFIG, config)
            self._check()  # again: an export takes minutes, and others write too
            if not os.path.lexists(self.path):
                made.rename(self.path)
                return
            self.path.rename(replaced)  # no call of Python's swaps folders: who is killed now has neither
            try:
                made.rename(self.path)
            except OSError:
                replaced.rename(self.path)
                raise
