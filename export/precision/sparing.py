"""Which layers of a network must stay in float32 when its body is computed in fewer bits, found by measurement."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from drc_deploy.engine_info import EngineInfo, Precision
from drc_deploy.errors import VerificationError
from drc_deploy.export.compare.agreement import HINTS, REQUIRED_PSNR_DB, Agreement, require_psnr
from drc_deploy.export.compare.diagnosis import find_layer_fault
from drc_deploy.export.compare.graph_runs import largest_magnitudes, run_graph
from drc_deploy.export.compare.reference import pixel_network, reference_outputs
from drc_deploy.export.compare.samples import check_batches, range_batches
from drc_deploy.export.compare.widening import widen
from drc_deploy.export.graph.graph_edit import constants_of, layer_of
from drc_deploy.export.precision.half_graph import element_types, largest_number, lowerable_nodes, to_half
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
    """Name of the module whose own operations these are, without those of modules in it; of the operation, where it is
    of no module."""
    reason: str


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """A network's precision, layer by layer, and its error."""

    precision: Precision
    """Of the body."""
    spared: tuple[SparedLayer, ...] = ()
    """Layers that stay in float32, without the operations on pixels, which always do (``pixel_borders.py``)."""
    agreement: Agreement | None = None
    """The graph with every result rounded to this precision, against torch in float32; None for fp32 and int8."""


def choose_precision(
    network: SRNetwork, graph: onnx.ModelProto, precision: Precision, info: EngineInfo
) -> tuple[PrecisionChoice, onnx.ModelProto]:
    """Find out which layers of a network must stay in float32, and make the graph of the rest in ``precision``.

    First those whose inputs, outputs or weights come near the end of the type on real images. Then, while the images
    are too far from float32, the layer with the largest part in the error, found by bisection.

    Args:
        network: in float32.
        graph: the same, over NHWC pixels. Left as it is.
        precision: fp16 or bf16; fp32 needs no choice.
        info: which inputs the graph takes.

    Raises:
        VerificationError: the network gives NaN by itself; or it takes more layers in float32 than is worth it, in
            which case the message names the first layer at fault.
    """
    if precision == "fp32":
        return PrecisionChoice(precision), graph
    search = _Search(network, graph, precision, info)
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
        names = [layer.layer for layer in spared]
        agreement = search.judge(names)
        if agreement.psnr_db >= REQUIRED_PSNR_DB[precision]:
            return PrecisionChoice(precision, tuple(spared), agreement), search.lower(names)
        if len(spared) >= limit:
            search.fail(agreement)
        worst = search.largest_contributor(names)
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


def measure_ranges(model: onnx.ModelProto, batches: Iterable[NDArray[np.uint8]]) -> dict[str, float]:
    """Run images through a float32 graph and watch every node.

    Args:
        model: over pixels.
        batches: (N, H, W, 3) uint8 RGB each.

    Returns:
        The largest magnitude of the inputs, the outputs and the weights of each node, over all images, by the name of
        its first output.
    """
    floats = {name for name, kind in element_types(model).items() if kind == TensorProto.FLOAT}
    constants = constants_of(model)
    made = [name for node in model.graph.node for name in node.output if name in floats]
    largest = largest_magnitudes(model, made, batches)
    largest |= {name: float(np.abs(constants[name]).max(initial=0)) for name in floats.intersection(constants)}
    return {
        node.output[0]: max((largest.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)
        for node in model.graph.node
    }


class _Search:
    """A float32 graph, the images that torch makes with the network, and trials in the other precision."""

    def __init__(self, network: SRNetwork, graph: onnx.ModelProto, precision: Precision, info: EngineInfo) -> None:
        self._graph, self._precision, self._info, self._batches = graph, precision, info, check_batches(info)
        self._references = reference_outputs(pixel_network(network), self._batches)
        lowerable = set(lowerable_nodes(graph, precision))
        self.layers: dict[str, list[str]] = {}
        """Nodes of each layer that can be lowered, by the names of their first outputs, in the order of computation."""
        for node in graph.graph.node:
            if node.output[0] in lowerable:
                self.layers.setdefault(layer_of(node), []).append(node.output[0])

    def out_of_range(self) -> list[SparedLayer]:
        limit = SAFE_SHARE * largest_number(self._precision)
        ranges = measure_ranges(self._graph, range_batches(self._info))
        reached = {layer: max(ranges[name] for name in nodes) for layer, nodes in self.layers.items()}
        return [
            SparedLayer(layer, f"whose numbers reach {largest:.3g}, where {limit:.3g} is safe")
            for layer, largest in reached.items()
            if not largest <= limit
        ]

    def lower(self, spared: Collection[str]) -> onnx.ModelProto:
        return to_half(self._graph, self._precision, [name for layer in spared for name in self.layers[layer]])

    def judge(self, spared: Collection[str]) -> Agreement:
        return self._agreement(spared, self._batches, self._references)

    def _agreement(
        self, spared: Collection[str], batches: Sequence[NDArray[np.uint8]], references: Sequence[Pixels]
    ) -> Agreement:
        outputs = run_graph(widen(self.lower(spared), rounding=True), batches)
        # Clipping could make a number of an infinity.
        broken = any(not np.isfinite(output).all() for output in outputs)
        return Agreement.between(references, outputs if broken else [np.clip(output, 0, 255) for output in outputs])

    def largest_contributor(self, spared: Collection[str]) -> str:
        return largest_contributor([name for name in self.layers if name not in spared], self._psnr_of_lowering)

    def _psnr_of_lowering(self, lowered: Sequence[str]) -> float:
        others = [name for name in self.layers if name not in lowered]
        return self._agreement(others, self._batches[:1], self._references[:1]).psnr_db

    def fail(self, agreement: Agreement) -> NoReturn:
        """Raise the error that names the first layer at fault."""
        lowered = self.lower(())
        faults = (find_layer_fault(self._graph, lowered, batch) for batch in self._batches)
        cause = next((f" First layer at fault: {fault}." for fault in faults if fault), "")
        require_psnr(agreement, self._precision, f"the network in {self._precision}", cause)
        raise AssertionError("called for an agreement that is good enough")
