"""The paper's comparisons of trainings: equal starts, patches and updates, with other duals or another weight of them.

Tables 5, 7 and 8 of the DRC paper and its figure of lambda. A cell is one training with one seed.
"""

import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from drc_deploy.checkpoint import Checkpoint, Parent, load_checkpoint
from drc_deploy.errors import UsageError
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.experiments.cells import CellFolder, Elsewhere, number_tag, quality_of, updates_before
from drc_deploy.train.experiments.paper_tables import ROW_OF_THE_NETWORK
from drc_deploy.train.loop.benchmark_psnr import Benchmark, fingerprints
from drc_deploy.train.loop.loop import Supervision
from drc_deploy.train.loop.run_folder import checkpoint_at, run_path
from drc_deploy.train.loop.run_options import DualVariant, TrainOptions
from drc_deploy.train.loop.training import Start, fresh_start, start_from_checkpoint, train
from drc_deploy.train.manifest import described


@dataclass(frozen=True, slots=True)
class Training:
    """One row of the tables with one seed."""

    dual: DualVariant
    dual_weight: float
    """Lambda; 0 without duals."""
    seed: int

    @property
    def name(self) -> str:
        """Name of the cell's file."""
        weight = f"_w{number_tag(self.dual_weight)}" if self.dual_weight else ""
        return f"{self.dual}{weight}_s{self.seed}"

    @property
    def group(self) -> str:
        """Itself: trainings share nothing."""
        return self.name

    def options(self, common: TrainOptions) -> TrainOptions:
        """Return what is common to all trainings with what this one has of its own.

        Raises:
            UsageError: options that cannot be run.
        """
        weight = self.dual_weight or common.dual_weight
        return replace(common, dual=self.dual, dual_weight=weight, seed=self.seed)


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """What all trainings have in common besides their options."""

    start: ModelSpec | Parent
    """A new network for each seed, or a checkpoint."""
    photographs: Photographs
    benchmarks: Sequence[Benchmark]
    fit_duals: bool = False
    """Fit the duals on pairs of images before the first update, those that the checkpoint has included."""
    at: tuple[int, ...] = ()
    """Updates after which PSNR is measured, besides the last."""


def all_trainings(
    rows: Sequence[str], values: Sequence[float], *, own: DualVariant, seeds: Sequence[int]
) -> Iterator[Training]:
    """Return every row once with each weight of the duals and each seed, seed by seed.

    Args:
        rows: Of a table of trainings.
        values: Weights of the duals; 0 is a training without. One where a table does not vary them.
        own: What the row of the network's own kind of duals is.
        seeds: Each decides patches, and new weights.
    """
    kinds: dict[str, DualVariant] = {ROW_OF_THE_NETWORK: own, **{kind: kind for kind in get_args(DualVariant)}}
    pairs: list[tuple[DualVariant, float]] = [
        (kinds[row], value) if value and row != "none" else ("none", 0.0)
        for row, value in itertools.product(rows, values)
    ]
    unique = dict.fromkeys(pairs)
    return (Training(dual, weight, seed) for seed in seeds for dual, weight in unique)


class TrainingComparison:
    """A folder of trainings, all from one start, on one set of photographs and with one set of options.

    Raises:
        UsageError: updates to measure at beyond the last one, or as ``CellFolder``.
    """

    def __init__(self, inputs: TrainingInputs, options: TrainOptions, folder: Path, *, restart: bool) -> None:
        """Check what can be checked before a long comparison.

        Args:
            inputs: The start and the data.
            options: Of all trainings; the cells have the duals, their weight and the seed.
            folder: Need not exist.
            restart: Clear what an earlier comparison left.
        """
        last = options.steps
        assert last is not None  # a comparison counts updates, not minutes
        self._at = updates_before(inputs.at, last)
        if 0 in self._at:
            raise UsageError("before the first update all trainings of a seed are the same.", "Leave out --at 0.")
        self._inputs, self._options = inputs, options
        start, common = inputs.start, asdict(options)
        for name in ("dual", "dual_weight", "seed"):
            del common[name]
        request = {
            "checkpoint": start.sha256 if isinstance(start, Parent) else None,
            "model": None if isinstance(start, Parent) else [start.name, start.scale],
            "data": inputs.photographs.fingerprint,
            "LR images by": inputs.photographs.lr_made_by,
            "eval": fingerprints(inputs.benchmarks),
            "fit_duals": inputs.fit_duals,
            "at": list(self._at),
            **common,
        }
        self._folder = CellFolder(folder, request, restart=restart)

    def run(self, cells: Sequence[Training], elsewhere: Elsewhere | None = None) -> list[dict[str, Any]]:
        """Run the trainings that are not there yet, and return all, behind what they start from.

        Args:
            cells: all of a comparison.
            elsewhere: as for ``CellFolder.run``.

        Raises:
            ArtefactError: the file of a cell was edited.
            TrainingError: a loss became NaN.
            UsageError: options that cannot be run.
            OutputError: another process is at work in the folder, or it cannot be written.
        """
        for cell in cells:
            cell.options(self._options)  # what is wrong with the options is better known before a long comparison
        shape = {"dual": str, "dual_weight": float, "at": dict}
        return self._folder.run(cells, before=self._before, measure=self._measure, shape=shape, elsewhere=elsewhere)

    def make(self, cells: Sequence[Training]) -> None:
        """Run trainings for ``run`` in another process, one after the other."""
        for cell in cells:
            self._folder.make(cell, self._measure)

    def _before(self) -> dict[str, Any]:
        start, benchmarks = self._inputs.start, self._inputs.benchmarks
        if isinstance(start, Parent):
            design = start.info.dual_design if start.checkpoint.dual_weights else None
            known = {"file": start.path.name, "sha256": start.sha256, "duals": design}
            return {"start": known, **described(start.checkpoint, benchmarks, {})}
        size = described(Checkpoint.of(build_network(start)), [], {})
        return {"start": {"model": start.name, "scale": start.scale}, **size}

    def _measure(self, cell: Training) -> dict[str, Any]:
        inputs, output = self._inputs, self._folder.work_file(cell.name)
        if not output.exists():  # a kill may have come between the end of a training and that of its measurement
            options = cell.options(self._options)
            start = begin(inputs.start, options)
            fit = start.fit_duals or (inputs.fit_duals and cell.dual != "none")
            supervision = Supervision(keep=0, keep_at=self._at)
            train(replace(start, fit_duals=fit), inputs.photographs, options, output, supervision=supervision)
        trained = load_checkpoint(output)
        content = {
            "dual": cell.dual,
            "dual_weight": cell.dual_weight,
            "seed": cell.seed,
            "seconds": {"train": trained.provenance["seconds"]},
            "loss": trained.provenance["loss"],
            "at": {str(step): quality_of(checkpoint_at(output, step), inputs.benchmarks) for step in self._at},
            **described(trained, inputs.benchmarks, {}),
        }
        output.unlink()
        shutil.rmtree(run_path(output))
        return content


def begin(start: ModelSpec | Parent, options: TrainOptions) -> Start:
    """Return live networks for one training; new weights are those of ``options.seed``.

    Raises:
        UsageError: duals or patches that the network cannot have.
    """
    return start_from_checkpoint(start, options) if isinstance(start, Parent) else fresh_start(start, options)
