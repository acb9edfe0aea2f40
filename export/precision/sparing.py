"""Which layers of a network must stay in float32 when its body is computed in fewer bits, found by measurement."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drc_deploy.engine_info import Precision
from drc_deploy.errors import VerificationError
from drc_deploy.export.compare.agreement import HINTS, REQUIRED_PSNR_DB, Agreement, require_psnr
from drc_deploy.export.compare.diagnosis import find_layer_fault, watched
from drc_deploy.export.compare.reference import (
    DTYPES,
    PixelNetwork,
    is_float32,
    reference_outputs,
    run_torch,
    to_tensor,
    with_precision,
)
from drc_deploy.export.compare.samples import check_batches, range_batches
from drc_deploy.models.network import SRNetwork
from drc_deploy.runtime.backends.contract import Pixels

SAFE_SHARE = 0.5
"""Of the largest number of a type, that an activation may reach: a sum of two such numbers is still one, and other
images than the samples have room."""
MOST_SPARED_SHARE = 0.5
"""Of a network's layers. Where more had to stay in float32, the network is better exported in float32."""
MOST_SPARED_BY_ERROR = 8
"""Layers that are spared one by one for their error. Each takes a search over all layers."""


@dataclass(frozen=True, slots=True)
class SparedLayer:
    """A layer that stays in float32 though its neighbours do not."""

    layer: str
    """Its module name in the network."""
    reason: str


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """A network's precision, layer by layer, and its error."""

    precision: Precision
    """Of the body."""
    spared: tuple[SparedLayer, ...] = ()
    """Layers that stay in float32, without those that the network itself declares (``SRNetwork.float32_modules``)."""
    agreement: Agreement | None = None
    """The network computed by torch in this precision, against float32; None for fp32."""

    def lower(self, network: SRNetwork, precision: Precision) -> PixelNetwork:
        """Return a copy of ``network`` in ``precision``: this choice's own, or fp32."""
        return with_precision(network, precision, [spared.layer for spared in self.spared])


def choose_precision(network: SRNetwork, precision: Precision, max_batch: int) -> PrecisionChoice:
    """Find out which layers of ``network`` must stay in float32.

    First those whose inputs, outputs or weights come near the end of the type on real images. Then, while torch in
    this precision is too far from float32, the layer with the largest part in the error, found by bisection.

    Args:
        network: in float32.
        precision: of the body.
        max_batch: largest batch of the images that are compared.

    Raises:
        VerificationError: the network gives NaN by itself; or it takes more layers in float32 than is worth it, in
            which case the message names the first layer at fault.
    """
    if precision == "fp32":
        return PrecisionChoice(precision)
    search = _Search(network, precision, check_batches(max_batch))
    spared = search.out_of_range()
    most = int(MOST_SPARED_SHARE * len(search.layers))
    if len(spared) > most:
        raise VerificationError(
            f"{len(spared)} of the network's {len(search.layers)} layers would have to stay in float32. First layer at "
            f"fault: {spared[0].layer}, {spared[0].reason}.",
            HINTS[precision],
        )
    limit = min(len(spared) + MOST_SPARED_BY_ERROR, most)
    while True:
        agreement = search.judge([layer.layer for layer in spared])
        if agreement.psnr_db >= REQUIRED_PSNR_DB[precision]:
            return PrecisionChoice(precision, tuple(spared), agreement)
        if len(spared) >= limit:
            search.fail(agreement)
        worst = search.largest_contributor([layer.layer for layer in spared])
        spared.append(SparedLayer(worst, f"which has the largest part in an error of {agreement.psnr_db:.1f} dB PSNR"))


def largest_contributor(layers: Sequence[str], psnr_of_lowering: Callable[[Sequence[str]], float]) -> str:
    """Find the layer with the largest part in an error: halve them, and go on with the half that does more harm.

    Args:
        layers: at least one.
        psnr_of_lowering: how close the network comes with these layers alone in the other precision.
    """
    while len(layers) > 1:
        middle = len(layers) // 2
        layers = min((layers[:middle], layers[middle:]), key=psnr_of_lowering)
    return layers[0]


def measure_ranges(network: PixelNetwork, batches: Iterable[NDArray[np.uint8]]) -> dict[str, float]:
    """Run images through a float32 network and watch every layer that has weights.

    Args:
        network: in float32, over pixels.
        batches: (N, H, W, 3) uint8 RGB each.

    Returns:
        The largest magnitude of the inputs, the outputs and the weights of each layer, over all images. The layers are
        those of ``SRNetwork.weighted_layers`` that the upscaled image depends on, in the order of the computation.
    """
    found: dict[str, float] = {}

    def record(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        values = (*inputs, output) if name in found else (*inputs, output, *layer.parameters())
        found[name] = max(found.get(name, 0.0), *(float(value.abs().max()) for value in values if value.numel()))

    body = network.network
    with watched(body, body.weighted_layers(), record), torch.no_grad():
        for batch in batches:
            network(to_tensor(batch))
    return found


class _Search:
    """The network in float32, its outputs on real images, and trials in the other precision."""

    def __init__(self, network: SRNetwork, precision: Precision, batches: Sequence[NDArray[np.uint8]]) -> None:
        self._network, self._precision, self._batches = network, precision, batches
        self._full = with_precision(network, "fp32")
        self._references = reference_outputs(self._full, batches)
        self._ranges = measure_ranges(self._full, range_batches())
        self.layers = [name for name in self._ranges if not is_float32(network, name)]

    def out_of_range(self) -> list[SparedLayer]:
        limit = SAFE_SHARE * torch.finfo(DTYPES[self._precision]).max
        return [
            SparedLayer(name, f"whose numbers reach {self._ranges[name]:.3g}, where {limit:.3g} is safe")
            for name in self.layers
            if not self._ranges[name] <= limit
        ]

    def judge(self, spared: Sequence[str]) -> Agreement:
        return Agreement.between(self._references, self._outputs(spared, self._batches))

    def _outputs(self, spared: Sequence[str], batches: Sequence[NDArray[np.uint8]]) -> list[Pixels]:
        lowered = with_precision(self._network, self._precision, spared)
        outputs = [run_torch(lowered, batch) for batch in batches]
        # Clipping could make a number of an infinity.
        broken = any(not np.isfinite(output).all() for output in outputs)
        return [*outputs] if broken else [np.clip(output, 0, 255) for output in outputs]

    def largest_contributor(self, spared: Sequence[str]) -> str:
        return largest_contributor([name for name in self.layers if name not in spared], self._psnr_of_lowering)

    def _psnr_of_lowering(self, lowered: Sequence[str]) -> float:
        others = [name for name in self.layers if name not in lowered]
        return Agreement.between(self._references[:1], self._outputs(others, self._batches[:1])).psnr_db

    def fail(self, agreement: Agreement) -> NoReturn:
        """Raise the error that names the first layer at fault."""
        lowered = with_precision(self._network, self._precision)
        faults = (find_layer_fault(self._full, lowered, to_tensor(batch)) for batch in self._batches)
        cause = next((f" First layer at fault: {fault}." for fault in faults if fault), "")
        require_psnr(agreement, self._precision, f"the network in {self._precision}", cause)
        raise AssertionError("called for an agreement that is good enough")
