"""From photographs to a checkpoint: training from scratch, from foreign weights, and fine-tuning."""

import dataclasses
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drc_deploy.checkpoint import Checkpoint, Parent, load_checkpoint, save_checkpoint
from drc_deploy.errors import UsageError
from drc_deploy.files import only_maker
from drc_deploy.models.blind import BlindNetwork
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.registry import build_network
from drc_deploy.train.data.patches import PatchSampler, PatchSource
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.data.targets import FollowedPatches
from drc_deploy.train.device import place
from drc_deploy.train.loop import distributed
from drc_deploy.train.loop.benchmark_psnr import Benchmark, fingerprints, measure_quality
from drc_deploy.train.loop.branches import branched_names
from drc_deploy.train.loop.distillation import Teacher
from drc_deploy.train.loop.dual_fit import fit_duals
from drc_deploy.train.loop.initial_weights import InitReport, load_initial_weights
from drc_deploy.train.loop.loop import Supervision, TrainingRun
from drc_deploy.train.loop.losses import dual_design
from drc_deploy.train.loop.parts import remove_with_parts
from drc_deploy.train.loop.run_folder import RunFolder
from drc_deploy.train.loop.run_options import DualVariant, TrainOptions
from drc_deploy.train.loop.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run begins: live networks, and what is known of their weights."""

    network: SRNetwork
    duals: nn.ModuleList
    provenance: dict[str, Any] = field(default_factory=dict)
    """What goes into the result's provenance."""
    parent_sha256: str | None = None
    """Of the checkpoint or other file that the weights came from."""
    teacher: Teacher | None = None
    """A network whose features are followed."""
    follows: Parent | None = None
    """A checkpoint whose images are the targets, instead of photographs."""
    fit_duals: bool = False
    """Whether the duals are fitted on pairs of images before the first update, as fresh ones next to a network that is
    trained already must be."""


def network_duals(start: ModelSpec | Parent) -> DualVariant:
    """Return the kind of duals that a network has by itself."""
    if isinstance(start, Parent):
        return start.info.dual_design
    with torch.device("meta"):
        return "single" if build_network(start).one_image else "progressive"


def fresh_start(spec: ModelSpec, options: TrainOptions) -> Start:
    """Begin with new weights, which ``options.seed`` decides.

    Raises:
        UsageError: unknown model, or one that cannot have such duals or patches.
    """
    torch.manual_seed(options.seed)
    network = build_network(spec)
    _check_duals(network, options)
    taken = network.taken_side(options.patch)
    if taken != options.patch:
        raise UsageError(
            f"{spec.name} takes no patches of {options.patch}x{options.patch} pixels.", f"Give --patch {taken}."
        )
    return Start(network, network.build_duals(dual_design(options.dual)), {"stage": "train"})


def _check_duals(network: SRNetwork, options: TrainOptions) -> None:
    """Check that a network can have the duals that are asked for.

    Raises:
        UsageError: it has one image, which several duals cannot be for.
    """
    if network.one_image and options.dual not in ("none", "single"):
        raise UsageError(
            f"a {network.spec.name} has one dual, from its image to its input, but {options.dual} was asked for.",
            "Give --dual single or none; in `ablate table7`, --method none single.",
        )


def start_from_weights(
    spec: ModelSpec, options: TrainOptions, source: Path, duals_source: Path | None = None
) -> tuple[Start, InitReport]:
    """Begin with new weights, and take all that fit from ``source``; the report names them.

    The weights of the duals come from ``duals_source``, a file of the authors, or from ``source``.

    Raises:
        UsageError: unknown model.
        ArtefactError: ``source`` cannot be read, or nothing in it fits.
    """
    start = fresh_start(spec, options)
    report = load_initial_weights(start.network, start.duals, source, duals_source)
    provenance = {**start.provenance, "init": report.summary, "init_duals_sha256": report.duals_sha256}
    trained = not report.network.mismatched and not report.network.missing
    fresh = trained and options.dual != "none" and not report.duals.matched
    return (
        dataclasses.replace(start, provenance=provenance, parent_sha256=report.sha256, fit_duals=fresh),
        report,
    )


def start_from_checkpoint(parent: Parent, options: TrainOptions) -> Start:
    """Begin with the network of a checkpoint, pruned or not, and its duals if it has those that are asked for.

    Raises:
        UsageError: duals that such a network cannot have.
    """
    checkpoint = parent.checkpoint
    network = checkpoint.build_network()
    _check_duals(network, options)
    torch.manual_seed(options.seed)  # only for duals, if the checkpoint does not have them
    design = dual_design(options.dual)
    if checkpoint.dual_design != design:
        checkpoint = dataclasses.replace(checkpoint, dual_design=design, dual_weights={})
    provenance = {"stage": "finetune", "before": checkpoint.provenance}
    fresh = not checkpoint.dual_weights and options.dual != "none"
    return Start(network, checkpoint.build_duals(), provenance, parent.sha256, fit_duals=fresh)


def following(start: Start, leader: Parent) -> Start:
    """Return a start whose targets are the images of another checkpoint, usually the unpruned one.

    Raises:
        UsageError: it has another scale, or the network learns blur kernels, which photographs alone show.
    """
    if isinstance(start.network, BlindNetwork):
        raise UsageError(
            f"a {start.network.spec.name} learns the blur of photographs, which images of a network do not show.",
            "Leave out --follow.",
        )
    if leader.info.scale != start.network.scale:
        raise UsageError(
            f"{leader.path} is for x{leader.info.scale}, but the network for x{start.network.scale}.",
            f"Follow a network for x{start.network.scale}.",
        )
    return dataclasses.replace(start, follows=leader)


def train(
    start: Start,
    photographs: Photographs,
    options: TrainOptions,
    output: Path,
    *,
    benchmarks: Sequence[Benchmark] = (),
    supervision: Supervision | None = None,
) -> Checkpoint:
    """Train a network and its duals and write the checkpoint.

    Log, state and checkpoints of the run stay in ``NAME.run/``. An interrupted run of the same options is taken up
    where it was. PSNR and SSIM on the benchmarks go into the checkpoint's provenance and decide nothing.

    Args:
        start: Its networks are changed.
        photographs: All with room for a patch (see ``Photographs.usable``).
        options: What decides the weights.
        output: ``NAME.safetensors``.
        benchmarks: Measured at the end.
        supervision: How the run is watched and kept.

    Raises:
        UsageError: impossible options, or unfinished work with other options.
        TrainingError: the loss became NaN.
        OutputError: the checkpoint cannot be written, or another process makes it.
    """
    if options.branches:
        branched_names(start.network)  # which is better known before duals are fitted
    with only_maker(output) if distributed.is_main() else nullcontext():
        return _train(start, photographs, options, output, benchmarks, supervision or Supervision())


def _train(
    start: Start,
    photographs: Photographs,
    options: TrainOptions,
    output: Path,
    benchmarks: Sequence[Benchmark],
    supervision: Supervision,
) -> Checkpoint:
    folder = RunFolder(output, restart=supervision.restart)
    shard = (distributed.rank(), distributed.world_size())
    spec = start.network.spec
    inputs = {
        "data": photographs.fingerprint,
        "LR images by": photographs.lr_made_by,
        "parent": start.parent_sha256,
        "duals": start.provenance.get("init_duals_sha256"),
        "model": spec.name,
        "scale": spec.scale,
        "widths": list(start.network.widths),
        "teacher": _teacher(start),
        "follows": start.follows.sha256 if start.follows else None,
        "val": supervision.validator.fingerprint if supervision.validator else None,
        "val_every": supervision.check_every if supervision.validator else None,
    }
    cut = PatchSampler(
        photographs, scale=spec.scale, patch=options.patch, batch=options.batch, seed=options.seed, shard=shard
    )
    cut.prefer_detail(options.prefer_detail)
    if options.augment_scale is not None:
        cut.reduce_photographs(options.augment_scale)
    sampler: PatchSource = cut
    if start.follows:
        sampler = FollowedPatches(cut, start.follows.checkpoint.build_network())
    with closing(sampler):
        if start.fit_duals and not folder.state.exists():
            fit_duals(start.duals, sampler)
        trainer = Trainer(start.network, start.duals, options, start.teacher)
        run = TrainingRun(trainer, sampler, folder, supervision)
        run.train(inputs)
    result = _result(run, start, photographs)
    if distributed.is_main():
        result.provenance["eval"] = fingerprints(benchmarks)
        result.provenance.update(measure_quality(place(result.build_network()), benchmarks))
        save_checkpoint(output, result, half=options.half)
        remove_with_parts(folder.state)
    distributed.wait_for_all()
    return result


def _teacher(start: Start) -> dict[str, Any] | None:
    return {"sha256": start.teacher.sha256, "weight": start.teacher.weight} if start.teacher else None


def _result(run: TrainingRun, start: Start, photographs: Photographs) -> Checkpoint:
    """Return the best weights by validation, or the last ones when there was none, with where they come from."""
    trainer, options = run.trainer, run.trainer.options
    if run.best_step is not None:
        kept = load_checkpoint(run.folder.best)
        kept_step, psnr = kept.provenance["step"], kept.provenance["validation_psnr"]
    else:
        kept_step, psnr = trainer.step, None
        with trainer.final_weights():
            duals = trainer.duals or None
            kept = Checkpoint.of(trainer.network, duals, dual_design=dual_design(options.dual))
    provenance = {
        **start.provenance,
        "data": photographs.described,
        **dataclasses.asdict(options),
        "steps": trainer.step,
        "teacher": _teacher(start),
        "follows": start.follows.sha256 if start.follows else None,
        "kept_step": kept_step,
        "validation_psnr": psnr,
        "loss": round(trainer.final_loss, 4),
        "seconds": round(trainer.seconds, 1),
        "processes": distributed.world_size(),
        "torch": torch.__version__,
    }
    return dataclasses.replace(kept, provenance=provenance, parent_sha256=start.parent_sha256)
