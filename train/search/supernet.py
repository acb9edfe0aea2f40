"""A network whose prunable layers are mixtures of candidate widths."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import gcd

import torch
from torch import Tensor, nn

from drc_deploy.errors import UsageError
from drc_deploy.models.network import SRNetwork
from drc_deploy.slices import PrunableLayer
from drc_deploy.train.device import place, place_images, training_device
from drc_deploy.train.loop.kernel_loss import LastKernel
from drc_deploy.train.loop.losses import dual_regression_losses
from drc_deploy.train.reader import Reader, readers, with_factors
from drc_deploy.train.search.gates import (
    Gate,
    Replacement,
    channel_energy,
    channel_norm,
    convolution_like,
    gated,
    mixture_gate,
    ranked,
    replaced,
)
from drc_deploy.train.search.search_options import SearchOptions, candidate_widths


def layer_candidates(network: SRNetwork, options: SearchOptions) -> list[list[int]]:
    """Return the candidate widths of each layer; a network that is pruned already can only become narrower.

    A layer that ``options`` leave alone has its present width as each candidate.
    """
    layers = zip(network.prunable_layers, network.widths, width_steps(network, options), strict=True)
    return [
        [min(width, now) for width in candidate_widths(layer.full_width, options.ratio, step, options.target)]
        for layer, now, step in layers
    ]


def left_alone(layer: PrunableLayer, options: SearchOptions) -> bool:
    """Return whether the layer keeps its channels whatever is found."""
    return layer.trunk and options.cut == "inner"


def width_steps(network: SRNetwork, options: SearchOptions) -> list[int]:
    """Return for each layer what its widths are multiples of: its present width where it is left alone.

    Of attention it is the width of all heads together, which weights and matrix products have.
    """
    return [
        now if left_alone(layer, options) else options.round_to // gcd(options.round_to, layer.read[0].repeats)
        for layer, now in zip(network.prunable_layers, network.widths, strict=True)
    ]


class Supernet(nn.Module):
    """Network, duals, and one logit for each candidate of each prunable layer.

    Attributes:
        alphas: (layers, candidates) logits. Zeros as in the paper: at the start every candidate is equally likely.
        candidates: (layers, candidates) int, the widths.
        importance: (channels of all layers,) of each channel, by which candidates keep their channels: the first
            ranks. It changes in ``rank_anew`` only, so that all passes of an update see the same candidates.
    """

    candidates: Tensor
    importance: Tensor

    def __init__(self, network: SRNetwork, duals: nn.ModuleList, options: SearchOptions) -> None:
        super().__init__()
        device = training_device()
        self.network = place(network).train()
        self.duals = place(duals).train() if options.dual_weight else nn.ModuleList()
        self._options = options
        self._readers = [readers(network, index) for index in range(len(network.prunable_layers))]
        rows = layer_candidates(network, options)
        self.register_buffer("candidates", torch.tensor(rows, device=device))
        self.alphas = nn.Parameter(torch.zeros(len(rows), len(rows[0]), device=device))
        self.register_buffer("importance", torch.zeros(sum(network.widths), device=device))
        self._seen: dict[int, Tensor] | None = None
        """Importance of the channels of each layer in the present pass, while ``rating`` runs."""
        self._rated: Tensor | None = None
        """Importance of all channels in the latest pass that rated them."""
        self._gates_open = False
        self._widths = list(network.widths)
        self.branches = nn.ModuleList()
        """For each layer one convolution per candidate, where candidates do not share weights."""
        if options.method == "darts":
            consumers = [_only_consumer(layer_readers) for layer_readers in self._readers]
            self.branches.extend(_branches(consumer, row) for consumer, row in zip(consumers, rows, strict=True))

    def weights(self) -> list[nn.Parameter]:
        """Return what the training half trains: the weights of the network, the duals and the branches."""
        unused = {
            id(parameter)
            for layer_readers in (self._readers if self.branches else ())
            for parameter in layer_readers[0].module.parameters()
        }
        everything = (p for m in (self.network, self.duals, self.branches) for p in m.parameters())
        return [p for p in everything if p.requires_grad and id(p) not in unused]

    def forward(self, images: list[Tensor]) -> Tensor:
        """Return the dual regression loss of the mixture for images of every scale, coarse to fine: a scalar."""
        images = place_images(images)
        replacing = replaced(self._sums_of_branches()) if self.branches else gated(*self._gates())
        with replacing, LastKernel(self.network) as kernel:
            outputs = self.network(images[0])
        return dual_regression_losses(outputs, images, self.duals, kernel.take()).total(self._options.dual_weight)

    def rank(self, images: list[Tensor]) -> None:
        """Rank the channels of each layer for the first time, by a pass in which all are kept."""
        self._gates_open = True
        try:
            with self.rating(), torch.no_grad():
                self(images)
        finally:
            self._gates_open = False
        self.rank_anew(1)

    @contextmanager
    def rating(self) -> Iterator[None]:
        """Rate channels by the pass in the block, for ``rank_anew``."""
        seen = self._seen = {}
        try:
            yield
        finally:
            self._seen = None
        if seen:
            self._rated = torch.cat([seen[index] for index in range(len(self._readers))])

    def rank_anew(self, share: float) -> None:
        """Rank channels by the mean of the latest rating and those before it.

        Args:
            share: What the latest counts. A batch alone ranks by chance: between two, a third of the channels change
                places.
        """
        if self._rated is not None:
            self.importance.lerp_(self._rated, share)

    def _gates(self) -> tuple[dict[nn.Module, Gate], dict[nn.Module, Gate]]:
        """Return what gates each module that reads prunable layers (paper, Equation 3), for one forward pass.

        And what gates each module that makes queries: a candidate narrows their products with the keys as well.
        """
        read: dict[nn.Module, list[tuple[int, Reader]]] = {}
        for index, layer_readers in enumerate(self._readers):
            for reader in layer_readers:
                read.setdefault(reader.module, []).append((index, reader))
        # Whatever comes first of a layer ranks its channels; all others keep the same ones.
        of_layer: dict[int, Tensor] = {}

        def gate(parts: list[tuple[int, Reader]], x: Tensor) -> Tensor:
            factors = x.new_ones(x.shape[parts[0][1].channel_axis])
            for index, reader in parts:
                if index not in of_layer:
                    of_layer[index] = self._mixture(index, x)
                factors = reader.with_factors(factors, of_layer[index])
            return factors

        def query_gate(index: int, layer: PrunableLayer, made: Tensor) -> Tensor:
            # What is read of attention are means of the values, with the same weights for all channels of a head.
            values, queries = layer.made[0], layer.queries[0]
            width = values.indices_per_channel * layer.full_width
            of_layer[index] = self._mixture(index, made.narrow(-1, values.start, width))
            return with_factors(made.new_ones(made.shape[-1]), queries, of_layer[index])

        layers = enumerate(self.network.present_layers)
        made: dict[nn.Module, Gate] = {
            self.network.get_submodule(layer.queries[0].module): partial(query_gate, index, layer)
            for index, layer in layers
            if layer.queries
        }
        return {module: partial(gate, parts) for module, parts in read.items()}, made

    def _mixture(self, index: int, x: Tensor) -> Tensor:
        """Return the factor of each channel of a layer: the chance that it is kept, (C,)."""
        layer_readers = self._readers[index]
        width = layer_readers[0].width
        if self._options.method != "drc":
            return mixture_gate(self.alphas[index], self.candidates[index], torch.arange(width, device=x.device))
        if self._seen is not None:
            energy = self._options.importance == "energy"
            self._seen[index] = channel_energy(layer_readers, x) if energy else channel_norm(layer_readers)
        if self._gates_open:
            return x.new_ones(width)
        first = sum(self._widths[:index])
        importance = self.importance.narrow(0, first, width)
        return mixture_gate(self.alphas[index], self.candidates[index], ranked(importance))

    def _sums_of_branches(self) -> dict[nn.Module, Replacement]:
        return {r[0].module: partial(self._sum_of_branches, index) for index, r in enumerate(self._readers)}

    def _sum_of_branches(self, index: int, x: Tensor) -> Tensor:
        """Compute every candidate by its own convolution, as DARTS does."""
        shares = torch.softmax(self.alphas[index], dim=0)
        branches = self.branches[index]
        assert isinstance(branches, nn.ModuleList)
        # Each branch is on the first channels; a narrow one has no weights for the others.
        outputs = (share * branch(x[:, : branch.in_channels]) for share, branch in zip(shares, branches, strict=True))
        return sum(outputs, start=x.new_zeros(()))


def has_only_convolutions(network: SRNetwork) -> bool:
    """Return whether each prunable layer is read by one convolution and nothing else, as ``darts`` needs it."""
    try:
        for index in range(len(network.prunable_layers)):
            _only_consumer(readers(network, index))
    except UsageError:
        return False
    return True


def _only_consumer(layer_readers: list[Reader]) -> nn.Conv2d:
    """Return the one convolution that reads a layer, and nothing else.

    Raises:
        UsageError: several modules read it, or one of another kind, or one that reads more.
    """
    consumer, *others = [reader.module for reader in layer_readers]
    if others or not isinstance(consumer, nn.Conv2d) or consumer.in_channels != layer_readers[0].width:
        raise UsageError(
            "the search method darts copies the convolution behind a layer, and some layer here has not just one.",
            "Give another --method: drc, darts-shared, random or uniform.",
        )
    return consumer


def _branches(consumer: nn.Conv2d, widths: list[int]) -> nn.ModuleList:
    """Copy a convolution once per width, each copy on as many first channels."""
    branches = nn.ModuleList()
    for width in widths:
        branch = convolution_like(consumer, width)
        with torch.no_grad():
            branch.weight.copy_(consumer.weight[:, :width])
            if branch.bias is not None and consumer.bias is not None:
                branch.bias.copy_(consumer.bias)
        branches.append(place(branch))
    return branches
