"""What a layer reads and should give at random places: the data of the regressions of CP and ThiNet."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.models.network import PrunableLayer
from drc_deploy.train.pruning.partial_forward import run_up_to
from drc_deploy.train.pruning.pruning import Pruning

PLACES = 10
"""Places per image, at least (He et al., 2017, and the DRC authors' code)."""
SAMPLES = 5000
"""Places in all, at least: a layer has hundreds of weights per output, and few images are at hand in a short run."""


RIDGE = 1e-3
"""How strongly new weights are held at the pretrained ones, relative to the mean square of what they read: a few
thousand samples do not determine some hundred weights well."""


@dataclass(frozen=True, slots=True)
class LayerSamples:
    """n places of a layer's output."""

    patches: Tensor
    """(n, C, kH*kW) float64: what the pruned network's consumer reads."""
    weight: Tensor
    """(O, C, kH*kW) float64: the consumer's pretrained weights."""
    targets: Tensor
    """(n, O) float64: what the original network's consumer gives there, without its bias."""

    def contributions(self) -> Tensor:
        """Return what each input channel adds to each output: (n, O, C)."""
        return torch.einsum("nck,ock->noc", self.patches, self.weight)


class Refit:
    """The weights of some input channels that explain the layer's targets best: least squares with a ridge.

    That is the minimum of the feature reconstruction loss (L_M of the DRC paper's Equation 5) in closed form. What all
    choices of channels share is computed once.
    """

    def __init__(self, samples: LayerSamples) -> None:
        read = samples.patches.flatten(1)
        self._products, self._moments = read.T @ read, read.T @ samples.targets
        self._weight = samples.weight

    def weights(self, kept: Sequence[int]) -> Tensor:
        """Return (O, kept, kH*kW) float64."""
        outputs, _, taps = self._weight.shape
        pretrained = self._weight[:, kept].flatten(1).T
        channels = torch.as_tensor(kept, device=pretrained.device)
        rows = (channels[:, None] * taps + torch.arange(taps, device=channels.device)).flatten()
        normal = self._products[rows][:, rows]
        error = self._moments[rows] - normal @ pretrained
        normal.diagonal().add_(RIDGE * normal.diagonal().mean() + 1e-12)
        change: Tensor = torch.linalg.solve(normal, error)
        return (pretrained + change).T.reshape(outputs, len(kept), taps)


def sample_layer(pruning: Pruning, layer: PrunableLayer, batches: Sequence[list[Tensor]]) -> LayerSamples:
    """Look at random places of every image; the seed and the layer decide which."""
    places = max(PLACES, -(-SAMPLES // sum(len(images[0]) for images in batches)))
    random = np.random.default_rng((pruning.options.seed, pruning.original.prunable_layers.index(layer)))
    consumer = pruning.pruned.convolution(layer.consumer)
    patches, targets = [], []
    for images in batches:
        read = run_up_to(pruning.pruned, layer.consumer, images[0]).input
        given = run_up_to(pruning.original, layer.consumer, images[0]).output
        number, _, height, width = given.shape
        image = torch.arange(number, device=read.device)[:, None]
        rows, columns = (
            torch.as_tensor(random.integers(side, size=(number, places)), device=read.device)
            for side in (height, width)
        )
        patches.append(_patches(consumer, read, image, rows, columns))
        targets.append(given[image, :, rows, columns].flatten(0, 1))
    bias = 0 if consumer.bias is None else pruning.original.convolution(layer.consumer).bias.double()  # type: ignore[union-attr]
    return LayerSamples(
        torch.cat(patches).double(), consumer.weight.detach().flatten(2).double(), torch.cat(targets).double() - bias
    )


def _patches(consumer: nn.Conv2d, read: Tensor, image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Cut what a convolution of stride 1 that keeps the size reads for some places of its output: (n, C, kH*kW)."""
    size_y, size_x = consumer.kernel_size
    padded = F.pad(read, (size_x // 2, size_x // 2, size_y // 2, size_y // 2))
    y = rows[:, :, None, None] + torch.arange(size_y, device=read.device)[:, None]
    x = columns[:, :, None, None] + torch.arange(size_x, device=read.device)
    return padded.permute(0, 2, 3, 1)[image[:, :, None, None], y, x].flatten(2, 3).flatten(0, 1).transpose(1, 2)
