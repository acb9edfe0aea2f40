"""The whole method in one go: search widths, prune to them, fine-tune; one manifest tells what each stage made."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drc_deploy import __version__
from drc_deploy.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from drc_deploy.files import sha256_of, write_text
from drc_deploy.train.evaluation import Benchmark
from drc_deploy.train.loop import Supervision
from drc_deploy.train.options import TrainOptions
from drc_deploy.train.patches import PatchSampler
from drc_deploy.train.photographs import Photographs
from drc_deploy.train.prune import PruneOptions, Pruner, prune_to_widths
from drc_deploy.train.search import Searcher, SearchOptions, search_widths
from drc_deploy.train.state import state_path_of
from drc_deploy.train.training import start_from_checkpoint, train
from drc_deploy.widths import WIDTHS_SUFFIX, WidthsFile, read_widths, write_widths


def compressed_name(name: str, ratio: float) -> str:
    """Give the name of a network pruned by ``ratio``: ``drn_s`` and 0.3 give ``drn_s_r30``."""
    return f"{name}_r{round(100 * ratio):02d}"


def search_file(
    parent: Path, photographs: Photographs, options: SearchOptions, output: Path, *, restart: bool = False
) -> WidthsFile:
    """Search widths for the checkpoint ``parent`` and write them to ``output``.

    Raises:
        ArtefactError: the checkpoint cannot be used.
        UsageError: unfinished work with other options.
        TrainingError: too few photographs, or the loss became NaN.
    """
    checkpoint = load_checkpoint(parent)
    state = state_path_of(output, "search", restart=restart)
    torch.manual_seed(options.seed)  # only for duals, if the checkpoint has none
    searcher = Searcher(checkpoint.build_network(), checkpoint.build_duals(), options)
    inputs = {"parent": sha256_of(parent), "data": photographs.fingerprint}
    widths = search_widths(searcher, photographs, state, inputs=inputs)
    content = WidthsFile(
        model=checkpoint.spec.name,
        scale=checkpoint.spec.scale,
        ratio=options.ratio,
        layers=tuple(layer.name for layer in searcher.network.prunable_layers),
        widths=tuple(widths),
        found_by=f"dual-regression search, {options.steps} steps, seed {options.seed}",
    )
    write_widths(output, content)
    state.unlink(missing_ok=True)
    return content


def prune_file(
    parent: Path,
    widths: tuple[int, ...],
    photographs: Photographs,
    options: PruneOptions,
    output: Path,
    *,
    restart: bool = False,
) -> Checkpoint:
    """Prune the checkpoint ``parent`` to ``widths`` and write the smaller checkpoint to ``output``.

    Raises:
        ArtefactError: the checkpoint cannot be used.
        UsageError: widths that do not fit, or unfinished work with other options.
        TrainingError: a gradient that is not finite.
    """
    checkpoint = load_checkpoint(parent)
    state = state_path_of(output, "prune", restart=restart)
    # Nothing trains the duals here: fresh ones would only add noise, so that then the primal part stands alone.
    duals = checkpoint.build_duals() if checkpoint.dual_weights else nn.ModuleList()
    pruner = Pruner(checkpoint.build_network(), duals, options)
    parent_sha256 = sha256_of(parent)
    inputs = {"parent": parent_sha256, "data": photographs.fingerprint}
    scale = checkpoint.spec.scale
    sampler = PatchSampler(photographs, scale=scale, patch=options.patch, batch=options.batch, seed=options.seed)
    with closing(sampler):
        network = prune_to_widths(pruner, widths, sampler, state, inputs=inputs)
    provenance = {"stage": "prune", "options": dataclasses.asdict(options), "before": checkpoint.provenance}
    pruned = Checkpoint.of(network, duals, provenance, parent_sha256, checkpoint.dual_design)
    save_checkpoint(output, pruned)
    state.unlink(missing_ok=True)
    return pruned


@dataclass(frozen=True, slots=True)
class CompressOptions:
    """The three stages' options; their data is the same."""

    search: SearchOptions
    prune: PruneOptions
    finetune: TrainOptions


def compress(
    parent: Path,
    photographs: Photographs,
    options: CompressOptions,
    output: Path,
    *,
    benchmarks: Sequence[Benchmark] = (),
    restart: bool = False,
) -> dict[str, Any]:
    """Search, prune and fine-tune ``parent`` and write the result to ``output``.

    What a stage made stays in ``OUTPUT.stages/``. A stage whose result is there, made from the same inputs with the
    same options, is not run again; an interrupted one goes on where it was.

    Returns:
        The manifest, which is also written to ``OUTPUT.manifest.json``.

    Raises:
        ArtefactError: the checkpoint cannot be used.
        TrainingError: too little data, or the loss became NaN.
    """
    stages = output.parent / f"{output.stem}.stages"
    widths_path = stages / f"{output.stem}{WIDTHS_SUFFIX}"
    pruned_path = stages / f"{output.stem}_pruned.safetensors"
    spec = load_checkpoint(parent).spec
    manifest = _Manifest(
        output.with_suffix(".manifest.json"),
        inputs={"checkpoint": sha256_of(parent), "data": photographs.fingerprint, "version": __version__},
        restart=restart,
    )
    manifest.run(
        "search",
        dataclasses.asdict(options.search),
        widths_path,
        lambda: search_file(parent, photographs, options.search, widths_path, restart=restart),
    )
    widths = read_widths(widths_path, model=spec.name, scale=spec.scale)
    manifest.run(
        "prune",
        dataclasses.asdict(options.prune),
        pruned_path,
        lambda: prune_file(parent, widths, photographs, options.prune, pruned_path, restart=restart),
    )
    manifest.run(
        "finetune",
        dataclasses.asdict(options.finetune),
        output,
        lambda: train(
            start_from_checkpoint(pruned_path, options.finetune),
            photographs,
            options.finetune,
            output,
            benchmarks=benchmarks,
            supervision=Supervision(restart=restart),
        ),
    )
    return manifest.content


class _Manifest:
    """What ``compress`` has done so far, kept on disk after every stage."""

    def __init__(self, path: Path, *, inputs: dict[str, Any], restart: bool) -> None:
        self._path = path
        previous = {} if restart else _read_json(path)
        # Stages are taken over only as long as everything before them is the same.
        self._previous = previous.get("stages", []) if previous.get("inputs") == inputs else []
        self.content: dict[str, Any] = {"inputs": inputs, "stages": []}

    def run(self, stage: str, options: dict[str, Any], result: Path, work: Callable[[], object]) -> None:
        """Do ``work``, which writes ``result``, unless an earlier run did it with the same inputs and options."""
        position = len(self.content["stages"])
        entry = self._previous[position] if position < len(self._previous) else {}
        if entry.get("options") != options or not _unchanged(result, entry.get("sha256")):
            self._previous = []
            start = time.monotonic()
            work()
            entry = {
                "stage": stage,
                "options": options,
                "result": result.name,
                "sha256": sha256_of(result),
                "seconds": round(time.monotonic() - start, 1),
            }
        self.content["stages"].append(entry)
        write_text(self._path, json.dumps(self.content, indent=2) + "\n")


def _unchanged(path: Path, sha256: str | None) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # no manifest, or an unreadable one: everything is done again
    return content if isinstance(content, dict) else {}
