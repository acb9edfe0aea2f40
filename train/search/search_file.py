"""Widths for a checkpoint: the bound, the method, the file of the result."""

import copy
import dataclasses
import itertools
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
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
from drc_deploy.train.device import TooLittleMemoryError, memory_checked, training_device
from drc_deploy.train.loop.dual_fit import fit_duals
from drc_deploy.train.loop.parts import remove_with_parts
from drc_deploy.train.loop.state import state_path_of
from drc_deploy.train.search.cost import CostBudget, budget_for, cost_model
from drc_deploy.train.search.plain_widths import random_widths, uniform_widths, widths_within
from drc_deploy.train.search.search import KeptSearch, open_halves, search_widths
from drc_deploy.train.search.search_options import RULES, WITHOUT_SEARCH, SearchOptions
from drc_deploy.train.search.searcher import Searcher
from drc_deploy.train.search.selection import check_reachable
from drc_deploy.train.search.supernet import layer_candidates, left_alone, width_steps
from drc_deploy.widths import WidthsFile, amount, write_widths

Jobs = Mapping[Path, SearchOptions]
"""What to search for, by the file of the result, ``NAME.widths.json``."""


@dataclass(frozen=True, slots=True)
class SearchInputs:
    """All that searches need, apart from their options."""

    parent: Parent
    """Pruned before or not; the ratio is relative to the unpruned network."""
    photographs: Photographs
    """At least two."""
    latency: LatencyTable | None = None
    """What the target "latency" counts in."""


def search_file(inputs: SearchInputs, options: SearchOptions, output: Path, *, restart: bool = False) -> WidthsFile:
    """Find widths for a checkpoint and write them to ``output``; see ``search_files``."""
    return search_files(inputs, {output: options}, restart=restart)[output]


def search_files(inputs: SearchInputs, jobs: Jobs, *, restart: bool = False) -> dict[Path, WidthsFile]:
    """Find widths for a checkpoint under several bounds, as many as can be searched at once, and write them.

    That is one on a CPU, which it keeps busy. On a GPU it is all, or as many as its memory holds.

    Args:
        inputs: The checkpoint and the data.
        jobs: Their options differ in the ratio only.
        restart: Throw unfinished work away.

    Returns:
        What was found for the first of ``jobs``, one or more.

    Raises:
        UsageError: unfinished work with other options, or a bound that ``check_bound`` refuses.
        TrainingError: too few photographs, or the loss became NaN.
        OutputError: another process makes a result, or it cannot be written.
    """
    group = dict(itertools.islice(jobs.items(), most_at_once(len(jobs))))
    with ExitStack() as stack:
        for output in group:
            stack.enter_context(only_maker(output))
        states = {output: state_path_of(output, "search", restart=restart) for output in group}
        while (contents := _found(inputs, group, states)) is None:
            torch.cuda.empty_cache()  # what is left in it has the sizes of the larger group
            group = dict(itertools.islice(group.items(), len(group) // 2))
        for output, content in contents.items():
            write_widths(output, content)
            remove_with_parts(states[output])
        return contents


def _found(inputs: SearchInputs, group: Jobs, states: Mapping[Path, Path]) -> dict[Path, WidthsFile] | None:
    """Return what is found for a group; None where the memory holds fewer searches."""
    if any(options.method in WITHOUT_SEARCH for options in group.values()):
        return {output: _ruled(inputs, options) for output, options in group.items()}
    try:
        return _searched(inputs, group, states)
    except TooLittleMemoryError:
        if len(group) == 1:
            raise
    return None


def _ruled(inputs: SearchInputs, options: SearchOptions) -> WidthsFile:
    """Choose widths without a search."""
    network = inputs.parent.checkpoint.build_network()
    budget = _checked_budget(network, options, inputs.latency)
    return _content(network, options, budget, _plain_widths(network, options, budget))


def most_at_once(count: int) -> int:
    """Return how many of so many searches to begin with: a CPU is busy with one."""
    return count if training_device().type == "cuda" else 1


def _searched(inputs: SearchInputs, jobs: Jobs, states: Mapping[Path, Path]) -> dict[Path, WidthsFile]:
    """Search side by side."""
    checkpoint, (first, *_) = inputs.parent.checkpoint, jobs.values()
    same = {
        "parent": inputs.parent.sha256,
        "data": inputs.photographs.fingerprint,
        "LR images by": inputs.photographs.lr_made_by,
        "latency": fingerprint(inputs.latency) if inputs.latency else None,
    }
    networks = {output: checkpoint.build_network() for output in jobs}
    budgets = {output: _checked_budget(networks[output], jobs[output], inputs.latency) for output in jobs}
    with memory_checked(), open_halves(inputs.photographs, checkpoint, first) as halves:
        duals = _duals(checkpoint, first, halves[0])
        searches = {
            output: KeptSearch(
                Searcher(networks[output], copy.deepcopy(duals), options, budgets[output]),
                states[output],
                {**dataclasses.asdict(options), **same},
            )
            for output, options in jobs.items()
        }
        search_widths(list(searches.values()), halves)
    return {
        output: dataclasses.replace(
            _content(networks[output], jobs[output], budgets[output], search.searcher.widths()),
            candidates=tuple(map(tuple, search.searcher.supernet.candidates.tolist())),
            probabilities=tuple(map(tuple, search.searcher.probabilities().tolist())),
        )
        for output, search in searches.items()
    }


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
