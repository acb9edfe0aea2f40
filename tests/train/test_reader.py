"""What reads a layer is seen and changed in one way, whatever module it is."""

import numpy as np
import pytest
import torch
from torch import nn

from drc_deploy.slices import Slice
from drc_deploy.train.pruning.layer_samples import _random_places, put_weights, read_patches
from drc_deploy.train.reader import Reader

MODULES = {
    "3x3": nn.Conv2d(10, 5, 3, padding=1),
    "stride 2, no padding": nn.Conv2d(10, 5, 3, stride=2),
    "dilated, 5x3": nn.Conv2d(10, 5, (5, 3), padding=(4, 2), dilation=2),
    "reflected": nn.Conv2d(10, 5, 3, padding=1, padding_mode="reflect"),
    "same": nn.Conv2d(10, 5, 5, padding="same"),
    "transposed": nn.ConvTranspose2d(10, 5, 4, stride=2, padding=1),
    "transposed, dilated": nn.ConvTranspose2d(10, 5, 3, stride=3, padding=1, output_padding=1, dilation=2),
    "linear": nn.Linear(10, 5),
}


def reader_of(module: nn.Module, start: int, width: int, group: int) -> Reader:
    axis = 0 if isinstance(module, nn.ConvTranspose2d) else 1
    return Reader(nn.ModuleDict({"m": module}), Slice("m.weight", axis, start, group), width)


def image_for(module: nn.Module) -> torch.Tensor:
    return torch.randn(2, 6, 7, 10) if isinstance(module, nn.Linear) else torch.randn(2, 10, 9, 8)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(("start", "width", "group"), [(0, 10, 1), (2, 3, 2), (6, 4, 1)])
def test_patches_times_weights_are_what_the_layer_adds_to_the_output(
    name: str, start: int, width: int, group: int
) -> None:
    """The layer's part of the output: that of the module, less that with the layer's inputs set to zero."""
    module = MODULES[name]
    reader, x = reader_of(module, start, width, group), image_for(module)
    silenced = x.clone()
    reader.channels(silenced).zero_()
    with torch.no_grad():
        output, others = module(x), module(silenced)
        places = _random_places(module, output, 40, np.random.default_rng(0))
        patches = read_patches(reader, x, places)
        kernels = reader.kernels(reader.weight).permute(2, 0, 1, 3).flatten(2)
        added = torch.einsum("nck,ock->no", patches, kernels)
    assert patches.shape == (len(places.coordinates[0]), width, kernels.shape[2])
    torch.testing.assert_close(added, places.outputs(output - others), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_weights_go_where_they_came_from_and_nowhere_else(name: str) -> None:
    module = MODULES[name]
    reader = reader_of(module, 2, 3, 2)
    before = reader.weight.detach().clone()
    kernels = reader.kernels(before).permute(2, 0, 1, 3).flatten(2)
    put_weights(reader, [0, 2], kernels[:, [0, 2]])
    x = image_for(module)
    without = x.clone()
    gone = [4, 5]
    without[(..., gone) if isinstance(module, nn.Linear) else (slice(None), gone)] = 0
    with torch.no_grad():
        pruned = module(x)
        reader.weight.copy_(before)
        torch.testing.assert_close(pruned, module(without), rtol=1e-4, atol=1e-5)


def test_factors_of_channels_stand_in_their_places() -> None:
    reader = reader_of(nn.Conv2d(10, 5, 3), 2, 3, 2)
    factors = reader.with_factors(torch.ones(10), torch.tensor([0.5, 0.0, 2.0]))
    assert factors.tolist() == [1, 1, 0.5, 0.5, 0, 0, 2, 2, 1, 1]
    mask = reader.masked(torch.tensor([1.0, 0.0, 1.0]))
    assert mask[0, :, 0, 0].tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0]
