"""Widths for a checkpoint: the bound, the method, the file of the result."""

import dataclasses
from itertools import compress
from pathlib import Path

import torch
from torch import nn

from drc_deploy.checkpoint import Checkpoint, Parent
from drc_deploy.errors import UsageError
from drc_deploy.files import only_maker
from drc_deploy.latency_table import LatencyTable, fingerprint
from drc_deploy.models.network import SRNetwork
from drc_deploy.train.data.patches import PatchSource
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop.dual_fit import fit_duals
from drc_deploy.train.loop.parts import remove_with_parts
from drc_deploy.train.loop.state import state_path_of
from drc_deploy.train.search.cost import CostBudget, budget_for, cost_model
from drc_deploy.train.search.plain_widths import random_widths, uniform_widths, widths_within
from drc_deploy.train.search.search import Searcher, open_halves, search_widths
from drc_deploy.train.search.search_options import RULES, WITHOUT_SEARCH, SearchOptions
from drc_deploy.train.search.selection import check_reachable
from drc_deploy.train.search.supernet import layer_candidates, left_alone, width_steps
from drc_deploy.widths import WidthsFile, amount, write_widths


def search_file(
    parent: Parent,
    photographs: Photographs,
    options: SearchOptions,
    output: Path,
    *,
    latency: LatencyTable | None = None,
    restart: bool = False,
) -> WidthsFile:
    """Find widths for a checkpoint and write them to ``output``.

    Args:
        parent: Pruned before or not; the ratio is relative to the unpruned network.
        photographs: At least two.
        options: How, and what for.
        output: ``NAME.widths.json``.
        latency: What ``options.target`` "latency" counts in.
        restart: Throw unfinished work away.

    Raises:
        UsageError: unfinished work with other options, or a bound that ``check_bound`` refuses.
        TrainingError: too few photographs, or the loss became NaN.
        OutputError: another process makes ``output``, or it cannot be written.
    """
    with only_maker(output):
        state = state_path_of(output, "search", restart=restart)
        return _search_file(parent, photographs, options, output, latency, state)


def _search_file(
    parent: Parent,
    photographs: Photographs,
    options: SearchOptions,
    output: Path,
    latency: LatencyTable | None,
    state: Path,
) -> WidthsFile:
    checkpoint = parent.checkpoint
    network = checkpoint.build_network()
    budget = _checked_budget(network, options, latency)
    if options.method in WITHOUT_SEARCH:
        content = _content(network, options, budget, _plain_widths(network, options, budget))
    else:
        inputs = {
            "parent": parent.sha256,
            "data": photographs.fingerprint,
            "LR images by": photographs.lr_made_by,
            "latency": fingerprint(latency) if latency else None,
        }
        with open_halves(photographs, checkpoint, options) as halves:
            searcher = Searcher(network, _duals(checkpoint, options, halves[0]), options, budget)
            widths = search_widths(searcher, halves, state, inputs=inputs)
        content = dataclasses.replace(
            _content(network, options, budget, widths),
            candidates=tuple(map(tuple, searcher.supernet.candidates.tolist())),
            probabilities=tuple(map(tuple, searcher.probabilities().tolist())),
        )
    write_widths(output, content)
    remove_with_parts(state)
    return content


def check_bound(checkpoint: Checkpoint, options: SearchOptions, latency: LatencyTable | None = None) -> None:
    """Find out, before photographs are read, whether a search can meet its bound, and whether it needs to.

    Raises:
        UsageError: no widths meet the bound, or the network meets it as it is.
    """
    _checked_budget(checkpoint.build_network(), options, latency)


def _checked_budget(network: SRNetwork, options: SearchOptions, latency: LatencyTable | None) -> CostBudget | None:
    _check_narrower(network, options)
    budget = _budget(network, options, latency)
    _check_needed(network, options, budget)
    if budget and options.method in RULES:
        narrowest = zip(width_steps(network, options), network.widths, strict=True)
        check_reachable([min(step, now) for step, now in narrowest], budget)
    elif budget:
        _check_reachable(network, options, budget)
    return budget


def _duals(checkpoint: Checkpoint, options: SearchOptions, patches: PatchSource) -> nn.ModuleList:
    """Return the trained duals, or fitted ones where the search wants some and the checkpoint has none."""
    torch.manual_seed(options.seed)
    duals = checkpoint.build_duals()
    if options.dual_weight and not checkpoint.dual_weights:
        fit_duals(duals, patches)
    return duals


def _content(network: SRNetwork, options: SearchOptions, budget: CostBudget | None, widths: list[int]) -> WidthsFile:
    full = tuple(layer.full_width for layer in network.prunable_layers)
    counted = [not left_alone(layer, options) for layer in network.prunable_layers]
    cut_full, cut = sum(compress(full, counted)), sum(compress(widths, counted))
    return WidthsFile(
        model=network.spec.name,
        scale=network.spec.scale,
        ratio=options.ratio,
        layers=tuple(layer.name for layer in network.prunable_layers),
        found_by=_how(options),
        target=options.target,
        unit=budget.cost.unit if budget else "channels",
        asked=budget.limit if budget else (1 - options.ratio) * cut_full,
        reached=budget.cost.total(widths) if budget else cut,
        full=budget.full if budget else cut_full,
        full_widths=full,
        widths=tuple(widths),
    )


def _budget(network: SRNetwork, options: SearchOptions, latency: LatencyTable | None) -> CostBudget | None:
    if options.target == "channels":
        return None
    unpruned = dataclasses.replace(network.spec, widths=None)
    full = [layer.full_width for layer in network.prunable_layers]
    return budget_for(cost_model(unpruned, options.target, latency), full, options.ratio)


def _check_reachable(network: SRNetwork, options: SearchOptions, budget: CostBudget) -> None:
    """Refuse a bound that no candidates meet; name the nearest ratio whose own candidates meet it."""

    def limit(ratio: float) -> float:
        return (1 - ratio) * budget.full

    def least(ratio: float) -> float:
        candidates = layer_candidates(network, dataclasses.replace(options, ratio=ratio))
        return budget.cost.total([row[0] for row in candidates])

    if least(options.ratio) <= budget.limit:
        return
    asked = f"no candidates meet {amount(budget.limit)} {budget.cost.unit}"
    for ratio in (thousandths / 1000 for thousandths in range(int(1000 * options.ratio), 0, -1)):
        if least(ratio) <= limit(ratio):
            nearest = f"the nearest that can be reached is {amount(limit(ratio))}, a ratio of {ratio:.3f}"
            raise UsageError(f"{asked}; {nearest}.", "Give a smaller --ratio or a smaller --round-to.")
    raise UsageError(f"{asked}, nor those of any smaller ratio.", "Give a smaller --round-to.")


def _check_narrower(network: SRNetwork, options: SearchOptions) -> None:
    """Refuse a search that could take nothing away."""
    if [row[0] for row in layer_candidates(network, options)] == list(network.widths):
        raise UsageError(
            f"no layer of this network can become narrower with ratio {options.ratio} and multiples of "
            f"{options.round_to}.",
            "Give a larger --ratio or a smaller --round-to.",
        )


def _check_needed(network: SRNetwork, options: SearchOptions, budget: CostBudget | None) -> None:
    """Refuse a bound that the network meets as it is, layer by layer where that is how it is bounded."""
    now = _content(network, options, budget, list(network.widths))
    assert now.asked is not None
    assert now.reached is not None
    share = 1 - options.ratio
    layers = zip(network.prunable_layers, network.widths, strict=True)
    too_wide = any(width > share * layer.full_width for layer, width in layers if not left_alone(layer, options))
    if now.reached > now.asked if budget else too_wide:
        return
    raise UsageError(
        f"nothing needs to be cut: this network has {amount(now.reached)} {now.unit}, and a ratio of "
        f"{options.ratio:g} allows {amount(now.asked)}.",
        "Give a larger --ratio: it counts from the unpruned network.",
    )


def _plain_widths(network: SRNetwork, options: SearchOptions, budget: CostBudget | None) -> list[int]:
    """Choose without a search, as ``options.method`` says."""
    if options.method == "random":
        candidates = [sorted(set(row)) for row in layer_candidates(network, options)]
        return random_widths(candidates, budget, options.seed)
    full, now = [layer.full_width for layer in network.prunable_layers], network.widths
    steps = width_steps(network, options)
    if budget:
        return widths_within(full, now, budget, steps, by_cost=options.method == "by-cost")
    return uniform_widths(full, now, options.ratio, steps)


def _how(options: SearchOptions) -> str:
    if options.method in WITHOUT_SEARCH:
        return f"{options.method} widths, seed {options.seed}"
    duals = "" if options.dual_weight else " without duals"
    importance = f", by {options.importance}" if options.method == "drc" else ""
    return (
        f"{options.method} search{importance}{duals}, order {options.order}, {options.steps} steps, seed {options.seed}"
    )
