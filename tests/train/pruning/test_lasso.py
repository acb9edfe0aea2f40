"""LASSO by its optimality conditions, least squares by a second solver."""

import numpy as np
import pytest
import torch

from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.pruning.lasso import lasso, lasso_channels
from drc_deploy.train.pruning.layer_samples import LayerSamples, Refit, sample_readers
from drc_deploy.train.pruning.prune import pruning_method
from drc_deploy.train.pruning.prune_options import PruneOptions
from drc_deploy.train.pruning.pruning import LayerwisePruning
from tests.train.pruning.test_prune import sampler, task


def regression(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(200, 12)) * np.arange(1, 13)
    targets = inputs[:, [2, 7, 9]].sum(axis=1) + 0.1 * random.normal(size=200)
    return inputs.T @ inputs, inputs.T @ targets


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 1.0])
def test_the_solution_meets_the_optimality_conditions(share: float) -> None:
    gram, moment = regression()
    penalty = share * np.abs(moment).max()
    factors = lasso(gram, moment, penalty, np.zeros(12))
    slope = moment - gram @ factors
    scale = np.abs(moment).max()
    on = factors != 0
    np.testing.assert_allclose(slope[on], penalty * np.sign(factors[on]), atol=1e-5 * scale)
    assert (np.abs(slope[~on]) <= penalty + 1e-5 * scale).all()


def test_the_channels_that_make_the_output_are_found() -> None:
    assert lasso_channels(*regression(), 3) == [2, 7, 9]


@pytest.mark.parametrize("width", range(1, 13))
def test_any_number_of_channels_can_be_asked_for(width: int) -> None:
    gram, moment = regression(1)
    gram[:, 5] = gram[5, :] = moment[5] = 0  # a channel that gives nothing
    kept = lasso_channels(gram, moment, width)
    assert len(set(kept)) == width
    assert (5 in kept) == (width == 12)


def test_refitting_is_least_squares_where_samples_abound() -> None:
    patches, weight = torch.randn(4000, 6, 9, dtype=torch.float64), torch.randn(5, 6, 9, dtype=torch.float64)
    targets = torch.einsum("nck,ock->no", patches, weight) + patches[:, 0, :5]
    kept = [1, 3, 4]
    found = Refit(LayerSamples(patches, weight, targets)).weights(kept).flatten(1)
    expected = torch.linalg.lstsq(patches[:, kept].flatten(1), targets).solution.T
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)


def test_samples_are_what_the_layer_reads_and_gives(photographs: Photographs) -> None:
    pruning = pruning_method(task(photographs, options=PruneOptions("cp", 2, 2, 8)))
    assert isinstance(pruning, LayerwisePruning)
    batches = [sampler(photographs).sample(i) for i in range(2)]
    for index in (0, 2, 6, 11):
        (samples,) = sample_readers(pruning, index, batches)
        assert 5000 <= samples.targets.shape[0] < 5000 + 4
        # Nothing is pruned yet: the contributions of all channels add up to the targets.
        torch.testing.assert_close(samples.contributions().sum(dim=2), samples.targets, rtol=1e-4, atol=1e-3)
