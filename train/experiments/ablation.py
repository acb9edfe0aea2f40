"""The paper's comparisons on the user's own network: every method at equal cost and equal fine-tuning.

Tables 2 (pruning methods), 4 (how widths are chosen) and 6 (with and without duals) of the DRC paper, and its figure of
gamma. A cell is one method at one ratio with one seed.
"""

import itertools
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from drc_deploy.checkpoint import Parent, load_checkpoint
from drc_deploy.errors import UsageError
from drc_deploy.files import write_text
from drc_deploy.input_files import read_text
from drc_deploy.latency_table import fingerprint
from drc_deploy.train.compress import CompressInputs, CompressOptions
from drc_deploy.train.experiments.cells import CellFolder, Elsewhere, number_tag, quality_of, updates_before
from drc_deploy.train.loop.benchmark_psnr import fingerprints
from drc_deploy.train.loop.loop import Supervision
from drc_deploy.train.loop.run_folder import checkpoint_at, run_path
from drc_deploy.train.loop.run_options import DualVariant, TargetImages, TrainingPrecision, TrainOptions
from drc_deploy.train.loop.training import start_from_checkpoint, train
from drc_deploy.train.manifest import described
from drc_deploy.train.pruning.prune import prune_file
from drc_deploy.train.pruning.prune_options import PruneMethod, PruneOptions
from drc_deploy.train.search.search_file import SearchInputs, search_file
from drc_deploy.train.search.search_options import Cut, SearchMethod, SearchOptions, ratio_tag
from drc_deploy.widths import WIDTHS_SUFFIX, Target, read_widths


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the tables: how widths are chosen, how channels are, and where the duals take part."""

    name: str
    label: str
    search: SearchMethod = "drc"
    search_duals: bool = True
    prune: PruneMethod = "drc"
    duals: bool = True
    """In pruning and fine-tuning."""
    published_search: bool = False
    """Whether the search is the paper's: by the L1 norm, of second order."""
    published_pruning: bool = False
    """Whether the pruning is the paper's: without a refit."""


VARIANTS = (
    Variant("uniform", "DRC's pruning, uniform widths", "uniform"),
    Variant("uniform-published", "DRC's pruning as published, uniform widths", "uniform", published_pruning=True),
    Variant("random", "random widths", "random"),
    Variant("darts", "DARTS: own weights for each candidate", "darts", search_duals=False),
    Variant("darts-shared", "DARTS: shared weights, first channels", "darts-shared", search_duals=False),
    Variant("drc-plain", "DRC: shared weights by importance, no duals", search_duals=False),
    Variant("by-cost", "rule: shares fall with the root of a layer's cost", "by-cost"),
    Variant("drc", "DRC"),
    Variant("drc-published", "DRC as published", published_search=True, published_pruning=True),
    Variant("drc-published-widths", "DRC's pruning, DRC's widths as published", published_search=True),
    Variant("magnitude", "magnitude, uniform widths", "uniform", prune="magnitude"),
    Variant("cp", "CP, uniform widths", "uniform", prune="cp"),
    Variant("thinet", "ThiNet, uniform widths", "uniform", prune="thinet"),
    Variant("dcp", "DCP, uniform widths", "uniform", prune="dcp"),
    Variant("srp", "SRP, uniform widths", "uniform", prune="srp"),
    Variant("no-duals", "DRC without duals in any stage", search_duals=False, duals=False),
)


@dataclass(frozen=True, slots=True)
class AblationOptions:
    """What every cell has in common."""

    target: Target = "madds"
    """What all methods are held to."""
    round_to: int = 4
    cut: Cut = "inner"
    target_images: TargetImages = "photographs"
    search_steps: int = 200
    prune_batches: int = 4
    channels_per_step: int = 4
    finetune_steps: int = 300
    learning_rate: float = 1e-4
    precision: TrainingPrecision = "fp32"
    gamma: float = 1.0
    dual_weight: float = 0.1
    batch: int = 16
    patch: int = 24
    at: tuple[int, ...] = ()
    """Updates of fine-tuning after which quality is measured besides the last; 0: the pruned network."""

    def stages(self, cell: "Cell", dual: DualVariant = "progressive") -> CompressOptions:
        """Return the options of the three stages of a cell; ``dual`` is the kind of duals that the network has.

        Raises:
            UsageError: options that cannot be run.
        """
        variant = cell.variant
        patches: dict[str, Any] = {"batch": self.batch, "patch": self.patch, "seed": cell.seed}
        return CompressOptions(
            SearchOptions(
                cell.ratio,
                self.search_steps,
                round_to=self.round_to,
                method=variant.search,
                target=self.target,
                cut=self.cut,
                dual_weight=self.dual_weight if variant.search_duals else 0.0,
                order=2 if variant.published_search else 1,
                importance="l1" if variant.published_search else "energy",
                target_images=self.target_images,
                **patches,
            ),
            PruneOptions(
                variant.prune,
                self.prune_batches,
                channels_per_step=self.channels_per_step,
                gamma=self.gamma if cell.gamma is None else cell.gamma,
                dual_weight=self.dual_weight if variant.duals else 0.0,
                refit=False if variant.published_pruning else None,
                target_images=self.target_images,
                **patches,
            ),
            TrainOptions(
                self.finetune_steps,
                learning_rate=self.learning_rate,
                dual=dual if variant.duals and self.dual_weight else "none",
                dual_weight=self.dual_weight,
                precision=self.precision,
                **patches,
            ),
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """One method at one ratio with one seed."""

    variant: Variant
    ratio: float
    seed: int
    gamma: float | None = None
    """Where a table varies it; None: that of the options."""

    @property
    def name(self) -> str:
        """Name of the cell's file."""
        gamma = "" if self.gamma is None else f"_g{number_tag(self.gamma)}"
        return f"{self.variant.name}_{ratio_tag(self.ratio)}{gamma}_s{self.seed}"

    @property
    def group(self) -> str:
        """The search, which is done once."""
        return self.search_name

    @property
    def search_name(self) -> str:
        """Name of the search that the cell needs, which cells of other pruning methods share."""
        duals = "" if self.variant.search_duals else "_no_duals"
        published = "_published" if self.variant.published_search else ""
        return f"{self.variant.search}{duals}{published}_{ratio_tag(self.ratio)}_s{self.seed}"


class Ablation:
    """A folder of cells, all of one network, one set of photographs and one set of options.

    Raises:
        UsageError: the folder holds cells of something else, or files that are not of a comparison.
    """

    def __init__(self, inputs: CompressInputs, options: AblationOptions, folder: Path, *, restart: bool) -> None:
        self._inputs, self._options = inputs, options
        self._at = updates_before(options.at, options.finetune_steps)
        request = {
            "checkpoint": inputs.parent.sha256,
            "data": inputs.photographs.fingerprint,
            "LR images by": inputs.photographs.lr_made_by,
            "eval": fingerprints(inputs.benchmarks),
            **({"latency": fingerprint(inputs.latency)} if inputs.latency else {}),
            **asdict(options),
            "at": list(self._at),
        }
        self._folder = CellFolder(folder, request, restart=restart)

    def run(self, cells: Sequence[Cell], elsewhere: Elsewhere | None = None) -> list[dict[str, Any]]:
        """Compute the cells that are not there yet, and return all of them, with the unpruned network first.

        Args:
            cells: all of a comparison.
            elsewhere: as for ``CellFolder.run``.

        Raises:
            ArtefactError: the file of a cell was edited.
            UsageError: options that cannot be run, or widths that meet the bound do not exist.
            TrainingError: a loss became NaN, or too little data.
            OutputError: another process is at work in the folder, or it cannot be written.
        """
        for cell in cells:
            self._stages(cell)  # what is wrong with the options is better known before a long comparison
        shape = {
            "variant": str,
            "ratio": float,
            "at": dict,
            **({"gamma": float} if any(c.gamma is not None for c in cells) else {}),
        }
        return self._folder.run(cells, before=self._before, measure=self._measure, shape=shape, elsewhere=elsewhere)

    def make(self, cells: Sequence[Cell]) -> None:
        """Compute cells for ``run`` in another process, one after the other."""
        for cell in cells:
            self._folder.make(cell, self._measure)

    def _before(self) -> dict[str, Any]:
        parent = self._inputs.parent
        design = parent.info.dual_design if parent.checkpoint.dual_weights else None
        start = {"file": parent.path.name, "sha256": parent.sha256, "duals": design}
        return {"variant": "unpruned", "start": start, **described(parent.checkpoint, self._inputs.benchmarks, {})}

    def _measure(self, cell: Cell) -> dict[str, Any]:
        pruned, result = (self._folder.work_file(f"{cell.name}{suffix}") for suffix in ("_pruned", ""))
        photographs, stages = self._inputs.photographs, self._stages(cell)
        widths, search_s = self._widths(cell, stages.search)
        start = time.monotonic()
        prune_file(self._inputs.parent, widths, photographs, stages.prune, pruned)
        pruned_at, parent = time.monotonic(), Parent.read(pruned)
        first = start_from_checkpoint(parent, stages.finetune)
        if self._options.target_images == "self":
            first = replace(first, follows=self._inputs.parent)
        supervision = Supervision(keep=0, keep_at=tuple(step for step in self._at if step))
        train(first, photographs, stages.finetune, result, supervision=supervision)
        seconds = {"search": search_s, "prune": pruned_at - start, "finetune": time.monotonic() - pruned_at}
        content = {
            "variant": cell.variant.name,
            "ratio": cell.ratio,
            "gamma": stages.prune.gamma,
            "seed": cell.seed,
            "widths": list(widths),
            "seconds": {stage: round(value, 1) for stage, value in seconds.items()},
            "at": {
                str(step): quality_of(checkpoint_at(result, step) if step else pruned, self._inputs.benchmarks)
                for step in self._at
            },
            **described(load_checkpoint(result), self._inputs.benchmarks, {}),
        }
        for file in (pruned, result):
            file.unlink()
        shutil.rmtree(run_path(result))
        return content

    def _widths(self, cell: Cell, options: SearchOptions) -> tuple[tuple[int, ...], float]:
        """Return the cell's widths and how long the search for them took."""
        info = self._inputs.parent.info
        path = self._folder.path / "searches" / f"{cell.search_name}{WIDTHS_SUFFIX}"
        times = path.with_suffix(".seconds")
        if not path.exists() or _read_seconds(times) is None:
            start = time.monotonic()
            inputs = self._inputs
            search_file(SearchInputs(inputs.parent, inputs.photographs, inputs.latency), options, path)
            write_text(times, f"{time.monotonic() - start:.1f}\n")
        return read_widths(path, model=info.model, scale=info.scale), _read_seconds(times) or 0.0

    def _stages(self, cell: Cell) -> CompressOptions:
        return self._options.stages(cell, self._inputs.parent.info.dual_design)


def _read_seconds(path: Path) -> float | None:
    """Return how long a search took; None when it has not come to its end."""
    try:
        return float(read_text(path))
    except (OSError, ValueError):
        return None


def all_cells(
    ratios: Sequence[float], seeds: Sequence[int], variants: Sequence[Variant], gammas: Sequence[float | None] = (None,)
) -> Iterator[Cell]:
    """Return every combination once, seed by seed: what has come out when a run is stopped can then be compared."""
    # A cell that was named twice would count as two seeds.
    combinations = itertools.product(seeds, ratios, variants, gammas)
    return iter(dict.fromkeys(Cell(variant, ratio, seed, gamma) for seed, ratio, variant, gamma in combinations))


def find_variants(names: Sequence[str]) -> tuple[Variant, ...]:
    """Return the variants of these names; of none, all.

    Raises:
        UsageError: an unknown name.
    """
    known = {variant.name: variant for variant in VARIANTS}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"there is no method {unknown[0]!r} to compare.", f"Choose from {', '.join(known)}.")
    return tuple(known[name] for name in names) or VARIANTS
