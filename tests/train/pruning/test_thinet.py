"""Greedy removal by brute force, scales by a second solver."""

import itertools

import torch

from drc_deploy.train.pruning.thinet import best_scales, remaining_channels


def test_one_removal_is_the_best_there_is() -> None:
    contributions = torch.randn(50, 8, dtype=torch.float64)
    errors = {gone: float(contributions[:, gone].square().sum()) for gone in range(8)}
    worst = min(errors, key=lambda gone: errors[gone])
    assert remaining_channels(contributions, 7) == [i for i in range(8) if i != worst]


def test_channels_that_cancel_go_together() -> None:
    contributions = torch.eye(6, dtype=torch.float64)
    contributions[:, 4] = -contributions[:, 1] * 0.9  # alone each is missed, together nearly not
    contributions[:, 1] *= 0.95
    assert remaining_channels(contributions, 4) == [0, 2, 3, 5]
    pairs = {
        pair: float(contributions[:, pair].sum(dim=1).square().sum()) for pair in itertools.combinations(range(6), 2)
    }
    assert min(pairs, key=lambda pair: pairs[pair]) == (1, 4)


def test_scales_are_least_squares() -> None:
    contributions = torch.randn(300, 7, dtype=torch.float64)
    kept = [0, 2, 5]
    expected = torch.linalg.lstsq(contributions[:, kept], contributions.sum(dim=1, keepdim=True)).solution[:, 0]
    torch.testing.assert_close(best_scales(contributions, kept), expected, rtol=1e-4, atol=1e-4)


def test_a_channel_that_never_speaks_keeps_its_scale() -> None:
    contributions = torch.randn(300, 3, dtype=torch.float64)
    contributions[:, 1] = 0
    assert float(best_scales(contributions, [0, 1])[1]) == 1.0
