"""Tied layers lose the same filters, which fade out."""

import pytest
import torch

from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.pruning.prune_options import PruneOptions
from drc_deploy.train.pruning.srp import StructurePenaltyPruning, tied_choice
from tests.train.pruning.test_prune import task

OPTIONS = PruneOptions("srp", 1, 2, 8)


@pytest.fixture
def pruning(photographs: Photographs, monkeypatch: pytest.MonkeyPatch) -> StructurePenaltyPruning:
    monkeypatch.setattr("drc_deploy.train.pruning.srp.PASSES", 50)
    return StructurePenaltyPruning(task(photographs, options=OPTIONS))


def test_blocks_of_a_stage_keep_the_same_channels(pruning: StructurePenaltyPruning) -> None:
    chosen = tied_choice(pruning)
    names = [layer.name for layer in pruning.original.prunable_layers]
    stages = {
        stage: [kept for n, kept in zip(names, chosen, strict=True) if n.startswith(f"{stage}.block")]
        for stage in ("stage0", "stage1")
    }
    for kept in stages.values():
        assert len(kept) == 4
        assert all(k == kept[0] for k in kept)
    assert [len(kept) for kept in chosen] == list(pruning.task.widths)


def test_the_largest_filters_are_kept(pruning: StructurePenaltyPruning) -> None:
    with torch.no_grad():
        for block in range(4):
            pruning.original.convolution(f"up_blocks.1.{block}.body.0").weight[:12] *= 0.01
            pruning.original.convolution(f"up_blocks.1.{block}.body.2").weight[:, :12] *= 0.01
    assert tied_choice(pruning)[7] == list(range(12, 32))


def test_what_is_not_chosen_fades_while_the_rest_trains(pruning: StructurePenaltyPruning) -> None:
    layer = pruning.pruned.prunable_layers[4]
    consumer = pruning.pruned.convolution(layer.read[0].module)
    kept = tied_choice(pruning)[4]
    gone = [i for i in range(32) if i not in kept]
    start = consumer.weight.clone()
    sizes = []
    while not pruning.done:
        pruning.advance()
        sizes.append(float(consumer.weight[:, gone].norm()))
    assert sizes == sorted(sizes, reverse=True)
    # Almost nothing is left before what remains is cut off.
    assert sizes[-1] == 0 < sizes[-2] < 0.05 * float(start[:, gone].norm())
    assert 0 < float((consumer.weight[:, kept] - start[:, kept]).norm()) < float(start.norm())
    assert torch.equal(
        pruning.pruned.get_parameter("sub_mean.weight"), pruning.original.get_parameter("sub_mean.weight")
    )


def test_faded_weights_become_zero_and_not_subnormal(
    pruning: StructurePenaltyPruning, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = pruning.work - 1
    monkeypatch.setattr("drc_deploy.train.pruning.srp.LARGEST_DECAY", pruning.work / last * (1 - 1e-9))
    consumer = pruning.pruned.convolution(pruning.pruned.prunable_layers[4].read[0].module)
    for _ in range(last):  # the pass behind it cuts off
        pruning.advance()
    weights = consumer.weight.abs()
    assert bool((weights == 0).any())
    assert float(weights[weights > 0].min()) > 1e-10
