"""Dual-regression channel pruning: which channels of each layer stay?"""

import dataclasses
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drc_deploy.checkpoint import Checkpoint, Parent, save_checkpoint
from drc_deploy.files import only_maker
from drc_deploy.models.cutting import select_channels
from drc_deploy.models.network import SRNetwork
from drc_deploy.models.registry import build_network
from drc_deploy.progress import progress
from drc_deploy.train.data.patches import PatchSampler, PatchSource
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.data.targets import FollowedPatches
from drc_deploy.train.device import memory_checked
from drc_deploy.train.loop.dual_fit import fit_duals
from drc_deploy.train.loop.parts import remove_with_parts
from drc_deploy.train.loop.state import load_state, save_state, state_path_of
from drc_deploy.train.pruning.greedy import GreedyPruning
from drc_deploy.train.pruning.lasso import LassoPruning
from drc_deploy.train.pruning.magnitude import MagnitudePruning
from drc_deploy.train.pruning.prune_options import PruneMethod, PruneOptions
from drc_deploy.train.pruning.pruning import PruneTask, Pruning
from drc_deploy.train.pruning.srp import StructurePenaltyPruning
from drc_deploy.train.pruning.thinet import ThiNetPruning

METHODS: dict[PruneMethod, type[Pruning]] = {
    "drc": GreedyPruning,
    "dcp": GreedyPruning,
    "cp": LassoPruning,
    "thinet": ThiNetPruning,
    "srp": StructurePenaltyPruning,
    "magnitude": MagnitudePruning,
}


def pruning_method(task: PruneTask) -> Pruning:
    """Set the method that the task's options name to work on the task."""
    return METHODS[task.options.method](task)


def prune_file(
    parent: Parent,
    widths: tuple[int, ...],
    photographs: Photographs,
    options: PruneOptions,
    output: Path,
    *,
    restart: bool = False,
) -> Checkpoint:
    """Prune a checkpoint to ``widths`` and write the smaller checkpoint to ``output``.

    Raises:
        UsageError: widths that do not fit, or unfinished work with other options.
        TrainingError: a gradient that is not finite.
        OutputError: another process makes ``output``, or it cannot be written.
    """
    with only_maker(output):
        state = state_path_of(output, "prune", restart=restart)
        return _prune_file(parent, widths, photographs, options, output, state)


def _prune_file(
    parent: Parent,
    widths: tuple[int, ...],
    photographs: Photographs,
    options: PruneOptions,
    output: Path,
    state: Path,
) -> Checkpoint:
    checkpoint = parent.checkpoint
    sampler: PatchSource = PatchSampler(
        photographs, scale=checkpoint.spec.scale, patch=options.patch, batch=options.batch, seed=options.seed
    )
    if options.target_images == "self":
        sampler = FollowedPatches(sampler, checkpoint.build_network())
    with closing(sampler):
        duals = _duals(checkpoint, options, sampler)
        pruning = pruning_method(PruneTask(checkpoint.build_network(), duals, widths, sampler, options))
        inputs = {
            "parent": parent.sha256,
            "data": photographs.fingerprint,
            "LR images by": photographs.lr_made_by,
            "widths": list(widths),
        }
        network = prune_to_widths(pruning, state, inputs=inputs)
    provenance = {"stage": "prune", "options": dataclasses.asdict(options), "before": checkpoint.provenance}
    pruned = Checkpoint.of(network, duals or None, provenance, parent.sha256, checkpoint.dual_design)
    save_checkpoint(output, pruned)
    remove_with_parts(state)
    return pruned


def _duals(checkpoint: Checkpoint, options: PruneOptions, sampler: PatchSource) -> nn.ModuleList:
    """Return the trained duals; fitted ones where the method wants some and the checkpoint has none."""
    if not checkpoint.dual_weights and (options.method != "drc" or not options.dual_weight):
        return nn.ModuleList()
    torch.manual_seed(options.seed)
    duals = checkpoint.build_duals()
    if not checkpoint.dual_weights:
        fit_duals(duals, sampler)
    return duals


def prune_to_widths(pruning: Pruning, state_path: Path, *, inputs: dict[str, Any]) -> SRNetwork:
    """Prune every layer to its width and return the shrunk network, on the CPU. Unfinished work is continued.

    Args:
        pruning: A method and its task.
        state_path: Where finished work is kept; the caller deletes it once the result is on disk.
        inputs: What else must be the same when the work goes on, such as the checkpoint.

    Raises:
        UsageError: unfinished work of other options.
        TrainingError: a gradient that is not finite, or memory ran out.
    """
    options = {**dataclasses.asdict(pruning.options), **inputs}
    if state := load_state(state_path, options):
        pruning.restore(state["pruning"])
    done = pruning.work_done
    with memory_checked(), progress("Pruning channels", pruning.work, done=done) as bar:
        while not pruning.done:
            pruning.advance()
            save_state(state_path, {"options": options, "pruning": pruning.state()})
            bar.advance(pruning.work_done - done)
            done = pruning.work_done
    return shrink(pruning.pruned, pruning.kept)


def shrink(network: SRNetwork, kept: Sequence[Sequence[int]]) -> SRNetwork:
    """Build the narrower network that keeps only the given channels of each prunable layer.

    Its output equals that of ``network`` with zeros for the weights that read other channels.

    Args:
        network: Pruned before or not.
        kept: For each prunable layer, indices into its present channels, ascending.

    Returns:
        A new network on the CPU with the same mode (training or evaluation).
    """
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    spec = dataclasses.replace(network.spec, widths=tuple(len(channels) for channels in kept))
    smaller = build_network(spec)
    smaller.load_state_dict(select_channels(state, network.present_layers, kept))
    return smaller.train(network.training)
