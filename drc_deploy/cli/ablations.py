"""The two kinds of comparisons behind ``drc-deploy ablate``: of prunings, and of trainings."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drc_deploy.cli.options import emit
from drc_deploy.cli.pruning_options import Bound, TargetChoice, chosen_targets
from drc_deploy.cli.training_options import Sampling
from drc_deploy.errors import UsageError
from drc_deploy.printing import say
from drc_deploy.train.experiments.paper_tables import PaperTable
from drc_deploy.train.loop.run_options import Schedule, TrainingPrecision, TrainOptions

if TYPE_CHECKING:
    from drc_deploy.checkpoint import Parent
    from drc_deploy.models.network import ModelSpec
    from drc_deploy.train.experiments.ablation import Ablation
    from drc_deploy.train.experiments.trainings import TrainingComparison

DEFAULT_SCALE = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """What every comparison takes."""

    checkpoint: str
    seeds: int
    methods: tuple[str, ...]
    """Rows; empty: all."""
    values: tuple[float, ...]
    """Of lambda or gamma, where a table varies them; empty: its own."""
    learning_rate: float
    precision: TrainingPrecision
    dual_weight: float
    benchmark_folders: tuple[Path, ...]
    at: tuple[int, ...]
    output: Path | None
    workdir: Path
    as_json: bool
    address: str | None
    """Of Ray; None: everything is computed here."""


@dataclass(frozen=True, slots=True)
class Prunings:
    """What only comparisons of prunings take."""

    ratios: tuple[float, ...]
    search_steps: int
    prune_batches: int
    channels_per_step: int
    finetune_steps: int
    gamma: float
    target_images: TargetChoice


@dataclass(frozen=True, slots=True)
class Trainings:
    """What only comparisons of trainings take."""

    steps: int
    final_learning_rate: float
    schedule: Schedule
    warm_up: int | None
    ema: float
    fit_duals: bool
    scale: int | None
    """Of a new network; None: the usual one, or that of a checkpoint."""


@dataclass(frozen=True, slots=True)
class _Comparison:
    """All that a comparison is, before it is run."""

    folder: Path
    name: str
    """Of its tables."""
    cells: "list[Any]"
    made_by: "Ablation | TrainingComparison"
    tables: Callable[[list[dict[str, Any]]], str]
    """Writes what came out."""


def compare_prunings(
    table: PaperTable | None, asked: Asked, prunings: Prunings, bound: Bound, sampling: Sampling
) -> None:
    """Prune in the ways of a table, or in all, and print and write the tables."""
    _compare(partial(_prunings, table, asked, prunings, bound), asked, sampling)


def compare_trainings(table: PaperTable, asked: Asked, trainings: Trainings, sampling: Sampling) -> None:
    """Train in the ways of a table, and print and write it.

    Raises:
        UsageError: no benchmark set, or options that cannot be run.
    """
    _compare(partial(_trainings, table, asked, trainings), asked, sampling)


def _compare(prepare: Callable[[Sampling], _Comparison], asked: Asked, sampling: Sampling) -> None:
    comparison, elsewhere = prepare(sampling), None
    if asked.address:
        from drc_deploy.runtime.cluster.calls import calls

        make = partial(_make, prepare, dataclasses.replace(sampling, restart=False))
        elsewhere = partial(calls, asked.address, make)
    done = comparison.made_by.run(comparison.cells, elsewhere)
    _report(comparison.tables(done), done, comparison.folder, comparison.name, as_json=asked.as_json)


def _make(prepare: Callable[[Sampling], _Comparison], sampling: Sampling, names: tuple[str, ...]) -> None:
    """Make the cells of these names, in a process that has read nothing yet."""
    comparison = prepare(sampling)
    comparison.made_by.make([cell for cell in comparison.cells if cell.name in names])


def _prunings(
    table: PaperTable | None, asked: Asked, prunings: Prunings, bound: Bound, sampling: Sampling
) -> _Comparison:
    from drc_deploy.checkpoint import read_prunable
    from drc_deploy.locate import find_trained_checkpoint
    from drc_deploy.train.compress import CompressInputs
    from drc_deploy.train.experiments.ablation import Ablation, AblationOptions, all_cells, find_variants
    from drc_deploy.train.experiments.ablation_tables import tables
    from drc_deploy.train.loop.benchmark_psnr import find_benchmarks
    from drc_deploy.train.search.search_file import check_bound
    from drc_deploy.train.search.search_options import RULES
    from drc_deploy.train.search.supernet import has_only_convolutions

    variants = find_variants(table.choose_rows(asked.methods) if table else asked.methods)
    if bound.target == "channels" and not asked.methods:  # which the rule by cost is not for
        variants = tuple(variant for variant in variants if variant.name != "by-cost")
    options = AblationOptions(
        bound.target,
        bound.round_to,
        bound.cut,
        search_steps=prunings.search_steps,
        prune_batches=prunings.prune_batches,
        channels_per_step=prunings.channels_per_step,
        finetune_steps=prunings.finetune_steps,
        learning_rate=asked.learning_rate,
        precision=asked.precision,
        gamma=prunings.gamma,
        dual_weight=asked.dual_weight,
        batch=sampling.batch,
        patch=sampling.patch,
        at=asked.at,
    )
    seeds = range(sampling.seed, sampling.seed + asked.seeds)
    gammas = (asked.values or table.values) if table else ()
    stages = {cell: options.stages(cell) for cell in all_cells(prunings.ratios, seeds, variants, gammas or (None,))}
    parent = read_prunable(find_trained_checkpoint(asked.checkpoint, asked.workdir), sampling.patch)
    info = parent.info
    of_rows = {cell.variant.name for cell in stages}
    if "darts" in of_rows and not asked.methods and not has_only_convolutions(parent.checkpoint.build_network()):
        say("Without darts, which needs one convolution behind each layer; ask for it by --method.", err=True)
        stages = {cell: of_cell for cell, of_cell in stages.items() if cell.variant.name != "darts"}
    latency = bound.read_latency(info)
    for searched in {(cell.ratio, cell.variant.search in RULES): stages[cell].search for cell in stages}.values():
        check_bound(parent.checkpoint, searched, latency)
    benchmarks = find_benchmarks(asked.benchmark_folders, info.scale)
    photographs = sampling.read_photographs(info.scale, parent.checkpoint.provenance)
    targets = chosen_targets(prunings.target_images, parent, photographs, sampling.patch)
    options = dataclasses.replace(options, target_images=targets)
    folder = asked.output or asked.workdir / f"{parent.path.stem}.ablation"
    inputs = CompressInputs(parent, photographs, benchmarks, latency)
    ablation = Ablation(inputs, options, folder, restart=sampling.restart)
    text = partial(tables, options=options, named=table, lr_made_by=photographs.lr_made_by)
    return _Comparison(folder, table.name if table else "tables", list(stages), ablation, text)


def _trainings(table: PaperTable, asked: Asked, trainings: Trainings, sampling: Sampling) -> _Comparison:
    from drc_deploy.checkpoint import Parent
    from drc_deploy.train.experiments.training_tables import training_table
    from drc_deploy.train.experiments.trainings import (
        TrainingComparison,
        TrainingInputs,
        all_trainings,
        begin,
    )
    from drc_deploy.train.loop.benchmark_psnr import find_benchmarks
    from drc_deploy.train.loop.training import network_duals

    if not asked.benchmark_folders:
        raise UsageError(
            f"{table.name} compares PSNR, and there is no set to measure it on.", "Give --eval FOLDER, such as Set5."
        )
    rows, values = table.choose_rows(asked.methods), asked.values or table.values or (asked.dual_weight,)
    options = TrainOptions(
        trainings.steps,
        learning_rate=asked.learning_rate,
        final_learning_rate=trainings.final_learning_rate,
        schedule=trainings.schedule,
        warm_up=trainings.warm_up,
        dual_weight=asked.dual_weight,
        precision=asked.precision,
        ema=trainings.ema,
        **sampling.patches,
    )
    start, name = _find_start(asked, trainings.scale, sampling.patch)
    seeds = range(sampling.seed, sampling.seed + asked.seeds)
    cells = list(all_trainings(rows, values, own=network_duals(start), seeds=seeds))
    every = [cell.options(options) for cell in cells]
    # What the network cannot have is better known before photographs are read.
    scale = {begin(start, each).network.scale for each in every if each.seed == sampling.seed}.pop()
    trained = start.checkpoint.provenance if isinstance(start, Parent) else None
    benchmarks = find_benchmarks(asked.benchmark_folders, scale)
    photographs = sampling.read_photographs(scale, trained)
    inputs = TrainingInputs(start, photographs, benchmarks, trainings.fit_duals, asked.at)
    folder = asked.output or asked.workdir / f"{name}.trainings"
    comparison = TrainingComparison(inputs, options, folder, restart=sampling.restart)
    trained_on = (
        f"{len(photographs.entries)} photographs ({photographs.name}), with LR images by {photographs.lr_made_by}"
    )
    text = partial(training_table, options=options, table=table, fitted=trainings.fit_duals, photographs=trained_on)
    return _Comparison(folder, table.name, cells, comparison, text)


def _find_start(asked: Asked, scale: int | None, patch: int) -> "tuple[ModelSpec | Parent, str]":
    """Return new networks of a model or a checkpoint, and a name for its comparisons.

    Raises:
        UsageError: a scale that the model does not have, or one for a checkpoint.
        ArtefactError: no such checkpoint.
    """
    from drc_deploy.checkpoint import read_trainable
    from drc_deploy.locate import find_trained_checkpoint
    from drc_deploy.models.network import ModelSpec
    from drc_deploy.models.registry import MODELS, check_scale

    model = asked.checkpoint
    if model in MODELS:
        scale = scale or DEFAULT_SCALE
        check_scale(model, scale)
        say(f"{model}: a new network for each seed. To start from a checkpoint, give its file.", err=True)
        return ModelSpec(model, scale), model if scale == DEFAULT_SCALE else f"{model}_x{scale}"
    if scale:
        raise UsageError("--scale is for new networks, and a checkpoint has its own.", "Leave it out.")
    parent = read_trainable(find_trained_checkpoint(model, asked.workdir), patch)
    return parent, parent.path.stem


def _report(text: str, cells: list[dict[str, Any]], folder: Path, name: str, *, as_json: bool) -> None:
    """Write the tables, and print them or the cells."""
    from drc_deploy.files import write_text

    path = folder / f"{name}.md"
    write_text(path, text)
    emit({"folder": str(folder), "cells": cells}, as_json=as_json, text=f"{text}\nWrote {path}")
