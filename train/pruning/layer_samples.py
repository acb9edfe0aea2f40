"""What a layer's readers read and should give at random places: data of the regressions of DRC, CP and ThiNet."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.train.pruning.partial_forward import run_up_to
from drc_deploy.train.pruning.pruning import Pruning
from drc_deploy.train.reader import Reader, readers, silence

PLACES = 10
"""Places per image, at least (He et al., 2017, and the DRC authors' code)."""
SAMPLES = 5000
"""Places in all, at least: a layer has hundreds of weights per output, and few images are at hand in a short run."""


RIDGE = 1e-3
"""How strongly new weights are held at the pretrained ones, relative to the mean square of what they read: a few
thousand samples do not determine some hundred weights well."""


@dataclass(frozen=True, slots=True)
class LayerSamples:
    """n places of the output of one reader of a layer of C channels. Taps: its weights for one channel and output."""

    patches: Tensor
    """(n, C, taps) float64: what the pruned network's reader reads of the layer."""
    weight: Tensor
    """(O, C, taps) float64: the reader's pretrained weights."""
    targets: Tensor
    """(n, O) float64: what the layer must add there for the original network's output."""

    def contributions(self) -> Tensor:
        """Return what each channel adds to each output: (n, O, C)."""
        return torch.einsum("nck,ock->noc", self.patches, self.weight)


class Refit:
    """The weights of some channels that explain a reader's targets best: least squares with a ridge.

    That is the minimum of the feature reconstruction loss (L_M of the DRC paper's Equation 5) in closed form. What all
    choices of channels share is computed once.
    """

    def __init__(self, samples: LayerSamples) -> None:
        read = samples.patches.flatten(1)
        self._products, self._moments = read.T @ read, read.T @ samples.targets
        self._weight = samples.weight

    def weights(self, kept: Sequence[int]) -> Tensor:
        """Return (O, kept, taps) float64."""
        outputs, _, taps = self._weight.shape
        pretrained = self._weight[:, kept].flatten(1).T
        channels = torch.as_tensor(kept, device=pretrained.device)
        rows = (channels[:, None] * taps + torch.arange(taps, device=channels.device)).flatten()
        normal = self._products[rows][:, rows]
        error = self._moments[rows] - normal @ pretrained
        normal.diagonal().add_(RIDGE * normal.diagonal().mean() + 1e-12)
        change: Tensor = torch.linalg.solve(normal, error)
        return (pretrained + change).T.reshape(outputs, len(kept), taps)


def sample_readers(pruning: Pruning, index: int, batches: Sequence[list[Tensor]]) -> list[LayerSamples]:
    """Look at random places of every image, for each reader of the layer; the seed and the layer decide which."""
    layer_readers = readers(pruning.pruned, index)
    return [_sample(pruning, index, number, reader, batches) for number, reader in enumerate(layer_readers)]


def _sample(pruning: Pruning, index: int, number: int, reader: Reader, batches: Sequence[list[Tensor]]) -> LayerSamples:
    count = max(PLACES, -(-SAMPLES // sum(len(images[0]) for images in batches)))
    random = np.random.default_rng((pruning.options.seed, index, number)[: 2 + bool(number)])
    name = pruning.original.prunable_layers[index].read[number].module
    kernels = _by_output(reader.kernels(reader.weight.detach())).double()
    patches, targets = [], []
    for images in batches:
        pruned, original = (run_up_to(network, name, images[0]) for network in (pruning.pruned, pruning.original))
        places = _random_places(reader.module, original.output, count, random)
        patch = read_patches(reader, pruned.input, places).double()
        # What others add, the bias included, is as it is: the layer makes up the rest.
        others = places.outputs(pruned.output).double() - torch.einsum("nck,ock->no", patch, kernels)
        patches.append(patch)
        targets.append(places.outputs(original.output).double() - others)
    return LayerSamples(torch.cat(patches), kernels, torch.cat(targets))


def _by_output(kernels: Tensor) -> Tensor:
    """(C, group, O, taps) -> (O, C, group * taps)."""
    return kernels.permute(2, 0, 1, 3).flatten(2)


def put_weights(reader: Reader, kept: Sequence[int], weights: Tensor) -> None:
    """Set the weights that read some channels to (O, kept, taps), as ``Refit`` returns them, and the others to zero."""
    with torch.no_grad():
        kernels = reader.kernels(reader.weight)
        _, group, outputs, taps = kernels.shape
        kernels.zero_()
        kernels[kept] = weights.to(kernels).view(outputs, len(kept), group, taps).permute(1, 2, 0, 3)


def refit_behind_queries(pruning: Pruning, index: int, kept: Sequence[int], batches: Sequence[list[Tensor]]) -> None:
    """Refit what reads a layer of attention: without the queries that go, other attention is what it reads."""
    if not pruning.pruned.prunable_layers[index].queries:
        return
    silence(pruning.pruned, index, kept)
    for reader, samples in zip(readers(pruning.pruned, index), sample_readers(pruning, index, batches), strict=True):
        put_weights(reader, kept, Refit(samples).weights(kept))


@dataclass(frozen=True, slots=True)
class Places:
    """Where an output is looked at, (n,) int each: (image, row, column), or of a linear layer (place,)."""

    coordinates: tuple[Tensor, ...]

    def outputs(self, output: Tensor) -> Tensor:
        """Return all channels of an output there: (n, O)."""
        if len(self.coordinates) == 1:
            return output.flatten(0, -2)[self.coordinates[0]]
        image, row, column = self.coordinates
        return output[image, :, row, column]


def _random_places(module: nn.Module, output: Tensor, count: int, random: np.random.Generator) -> Places:
    """Choose ``count`` places for each image."""
    images, device = len(output), output.device

    def choose(below: int) -> Tensor:
        return torch.as_tensor(random.integers(below, size=(images, count)), device=device).flatten()

    if isinstance(module, nn.Linear):
        return Places((choose(output.flatten(0, -2).shape[0]),))
    image = torch.arange(images, device=device).repeat_interleave(count)
    return Places((image, *(choose(side) for side in output.shape[2:])))


def read_patches(reader: Reader, x: Tensor, places: Places) -> Tensor:
    """Return what a reader reads of its layer for some places of its output: (n, C, taps).

    The sum over channels and taps of it, times the weights, is what the layer adds to the output there.
    """
    x, module = reader.channels(x), reader.module
    if isinstance(module, nn.Linear):
        return x.flatten(0, -2)[places.coordinates[0]].view(-1, reader.width, reader.group)
    assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    image, *output = places.coordinates
    if isinstance(module, nn.Conv2d):
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x = F.pad(x, module._reversed_padding_repeated_twice, mode)
    rows, columns = (_read_places(module, axis, place) for axis, place in enumerate(output))
    y, columns = rows[:, :, None], columns[:, None, :]
    inside = (y >= 0) & (y < x.shape[2]) & (columns >= 0) & (columns < x.shape[3])
    y, columns = y.clamp(0, x.shape[2] - 1), columns.clamp(0, x.shape[3] - 1)
    patch = x.permute(0, 2, 3, 1)[image[:, None, None], y, columns] * inside[..., None]  # (n, kH, kW, C * group)
    return patch.flatten(1, 2).transpose(1, 2).reshape(len(image), reader.width, -1)


def _read_places(module: nn.Conv2d | nn.ConvTranspose2d, axis: int, place: Tensor) -> Tensor:
    """Return where along an axis each tap reads for (n,) places of the output: (n, taps), -1 for nowhere."""
    taps = torch.arange(module.kernel_size[axis], device=place.device) * module.dilation[axis]
    stride = module.stride[axis]
    if isinstance(module, nn.Conv2d):
        return place[:, None] * stride + taps
    assert not isinstance(module.padding, str)
    reached = place[:, None] + module.padding[axis] - taps
    return torch.where(reached % stride == 0, torch.div(reached, stride, rounding_mode="floor"), -1)
