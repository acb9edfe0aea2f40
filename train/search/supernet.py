"""A network whose prunable layers are mixtures of candidate widths."""

from functools import partial

import torch
from torch import Tensor, nn

from drc_deploy.models.network import SRNetwork
from drc_deploy.train.device import place, place_images, training_device
from drc_deploy.train.loop.losses import dual_regression_losses
from drc_deploy.train.search.gates import (
    Replacement,
    channel_energy,
    convolution_like,
    convolve,
    mixture_gate,
    ranked,
    replaced,
)
from drc_deploy.train.search.search_options import SearchOptions, candidate_widths


def layer_candidates(network: SRNetwork, options: SearchOptions) -> list[list[int]]:
    """Return the candidate widths of each layer; a network that is pruned already can only become narrower."""
    return [
        [min(w, now) for w in candidate_widths(layer.full_width, options.ratio, options.round_to, options.target)]
        for layer, now in zip(network.prunable_layers, network.widths, strict=True)
    ]


class Supernet(nn.Module):
    """Network, duals, and one logit for each candidate of each prunable layer.

    Attributes:
        alphas: (layers, candidates) logits. Zeros as in the paper: at the start every candidate is equally likely.
        candidates: (layers, candidates) int, the widths.
    """

    candidates: Tensor

    def __init__(self, network: SRNetwork, duals: nn.ModuleList, options: SearchOptions) -> None:
        super().__init__()
        device = training_device()
        self.network = place(network).train()
        self.duals = place(duals).train() if options.dual_weight else nn.ModuleList()
        self._options = options
        rows = layer_candidates(network, options)
        self.register_buffer("candidates", torch.tensor(rows, device=device))
        self.alphas = nn.Parameter(torch.zeros(len(rows), len(rows[0]), device=device))
        self.branches = nn.ModuleList()
        """For each layer one convolution per candidate, where candidates do not share weights."""
        if options.method == "darts":
            self.branches.extend(
                _branches(network.convolution(layer.consumer), row)
                for layer, row in zip(network.prunable_layers, rows, strict=True)
            )

    def weights(self) -> list[nn.Parameter]:
        """Return what the training half trains: the weights of the network, the duals and the branches."""
        unused = {
            id(parameter)
            for layer in (self.network.prunable_layers if self.branches else ())
            for parameter in self.network.convolution(layer.consumer).parameters()
        }
        everything = (p for m in (self.network, self.duals, self.branches) for p in m.parameters())
        return [p for p in everything if p.requires_grad and id(p) not in unused]

    def forward(self, images: list[Tensor]) -> Tensor:
        """Return the dual regression loss of the mixture for images of every scale, coarse to fine: a scalar."""
        images = place_images(images)
        with replaced(self.network, self._mixtures()):
            outputs = self.network(images[0])
        return dual_regression_losses(outputs, images, self.duals).total(self._options.dual_weight)

    def _mixtures(self) -> dict[str, Replacement]:
        mixture = self._sum_of_branches if self.branches else self._shared_weights
        return {layer.consumer: partial(mixture, index) for index, layer in enumerate(self.network.prunable_layers)}

    def _shared_weights(self, index: int, x: Tensor) -> Tensor:
        """Compute all candidates in one convolution (paper, Equation 3)."""
        consumer = self.network.convolution(self.network.prunable_layers[index].consumer)
        if self._options.method == "drc":
            rank = ranked(channel_energy(consumer, x))
        else:
            rank = torch.arange(consumer.in_channels, device=x.device)
        gate = mixture_gate(self.alphas[index], self.candidates[index], rank)
        return convolve(consumer, x, consumer.weight * gate[:, None, None])

    def _sum_of_branches(self, index: int, x: Tensor) -> Tensor:
        """Compute every candidate by its own convolution, as DARTS does."""
        shares = torch.softmax(self.alphas[index], dim=0)
        branches = self.branches[index]
        assert isinstance(branches, nn.ModuleList)
        # Each branch is on the first channels; a narrow one has no weights for the others.
        outputs = (share * branch(x[:, : branch.in_channels]) for share, branch in zip(shares, branches, strict=True))
        return sum(outputs, start=x.new_zeros(()))


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
