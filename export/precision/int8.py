"""Which convolutions of a network are computed in INT8, and the error: found by measurement."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from drc_deploy.errors import VerificationError
from drc_deploy.export.compare.agreement import HINTS, IDENTICAL_PSNR_DB, Agreement, require_psnr, to_uint8
from drc_deploy.export.compare.graph_runs import run_graph
from drc_deploy.export.compare.reference import pixel_network
from drc_deploy.export.graph.graph import simplify_graph, trace_graph
from drc_deploy.export.graph.graph_edit import constants_of, layer_of
from drc_deploy.export.graph.pixel_borders import pixel_nodes
from drc_deploy.export.precision.calibration import folder_crops, held_out_pairs, measure_limits, shipped_crops
from drc_deploy.export.precision.quantise import Form, quantise
from drc_deploy.export.precision.sparing import PrecisionChoice, SparedLayer, largest_contributor
from drc_deploy.images.crops import middle
from drc_deploy.metrics import score
from drc_deploy.models.network import SRNetwork
from drc_deploy.pairs import Pair
from drc_deploy.progress import progress
from drc_deploy.runtime.backends.contract import Pixels

AIM_PSNR_DB = 45.0
"""Between the images of the INT8 graph and those of float32. Layers are spared until it is reached.

drn_xs and drn_s reach 45 to 48 dB with every convolution in INT8, and lose 0.01 to 0.04 dB on Set5. Sparing the six
layers that drn_xs needs for 50 dB saves the last 0.02, and takes its largest convolutions out of INT8.
"""
MOST_SPARED = 8
"""Layers that are spared. Each takes a search over all layers."""
TRIAL_PX = 48
"""Longest side of the crops on which layers are compared."""


@dataclass(frozen=True, slots=True)
class Int8Cost:
    """Error of INT8 on photographs that took no part in the calibration."""

    form: Form
    """Library that the graph is for: see ``quantise.py``."""
    convolutions: int
    """Number computed in INT8."""
    eligible: int
    """Number that could have been."""
    psnr_db: float
    """Between the images of both graphs, the lowest of all photographs."""
    float32_psnr_y_db: float
    """Of the float32 graph against the originals, on luma, mean of all photographs."""
    int8_psnr_y_db: float
    """The same of the INT8 graph."""


def choose_int8(
    network: SRNetwork, form: Form, folder: Path | None
) -> tuple[PrecisionChoice, onnx.ModelProto, Int8Cost]:
    """Put every convolution into INT8 that can be without too much of an error.

    Convolutions that compute on pixels (``pixel_borders.py``) and those over means (channel attention), which take no
    time, stay in float32 from the start. Then, while the images are further than ``AIM_PSNR_DB`` from those of float32,
    the one that adds most to the error, found by bisection.

    Args:
        network: in float32.
        form: what the graph is for.
        folder: of images to calibrate on; None for those that ship with the package.

    Returns:
        Which layers stay in float32; the graph, float32 NHWC pixels in and out, unclamped; what it costs.

    Raises:
        InputError: the folder cannot be used.
        VerificationError: no convolution can be in INT8, or the images are too far from float32 with the most
            sensitive ones spared.
    """
    crops = shipped_crops(network.scale) if folder is None else folder_crops(folder)
    body = trace_graph(pixel_network(network))
    simplify_graph(body)
    names = candidates(body)
    if not names:
        raise VerificationError("this network has no convolution that can be in INT8.", HINTS["int8"])
    search = _Search(body, list(names), form, measure_limits(body, crops), held_out_pairs(network.scale))
    spared, agreement = search.spare()
    require_psnr(agreement, "int8", "the network in INT8", f" {len(spared)} of its layers are spared already.")
    choice = PrecisionChoice("int8", tuple(SparedLayer(names[output], reason) for output, reason in spared.items()))
    return choice, search.quantised(spared), search.cost(spared)


def candidates(body: onnx.ModelProto) -> dict[str, str]:
    """Return the layer of each convolution that may be in INT8, by the name of its output.

    A convolution that others were folded into goes by its own name.
    """
    inferred = onnx.shape_inference.infer_shapes(body).graph.value_info
    sides = {value.name: [side.dim_value for side in value.type.tensor_type.shape.dim[2:]] for value in inferred}
    constants, pixels = constants_of(body), pixel_nodes(body)
    return {
        node.output[0]: layer_of(node)
        for node in body.graph.node
        if node.op_type == "Conv"
        and node.output[0] not in pixels
        and sides.get(node.input[0]) != [1, 1]  # means
        and node.input[1] in constants
    }


class _Search:
    """A float32 graph, its outputs on photographs, and trials with some convolutions in INT8."""

    def __init__(
        self,
        body: onnx.ModelProto,
        convolutions: Sequence[str],
        form: Form,
        limits: Mapping[str, float],
        pairs: Sequence[Pair],
    ) -> None:
        self._body, self._all, self._form, self._limits, self._pairs = body, convolutions, form, limits, pairs
        self._trial = [middle(pair.lr, TRIAL_PX)[None] for pair in pairs]
        self._references = _clipped(run_graph(body, self._trial))

    def quantised(self, spared: Collection[str]) -> onnx.ModelProto:
        return quantise(self._body, [name for name in self._all if name not in spared], self._limits, self._form)

    def spare(self) -> tuple[dict[str, str], Agreement]:
        """Return the convolutions to spare with the reason of each, and how close the rest then is to float32."""
        spared: dict[str, str] = {}
        most = min(MOST_SPARED, len(self._all) - 1)
        with progress("Looking for layers that INT8 harms most", most) as bar:
            while True:
                agreement = self._judge(spared)
                if agreement.psnr_db >= AIM_PSNR_DB or len(spared) >= most:
                    return spared, agreement
                left = [name for name in self._all if name not in spared]
                worst = largest_contributor(left, self._psnr_of_quantising)
                spared[worst] = f"which has the largest part in an error of {agreement.psnr_db:.1f} dB PSNR"
                bar.advance(note=f"{agreement.psnr_db:.1f} dB")

    def _psnr_of_quantising(self, chosen: Sequence[str]) -> float:
        return self._judge([name for name in self._all if name not in chosen], photographs=1).psnr_db

    def _judge(self, spared: Collection[str], photographs: int | None = None) -> Agreement:
        outputs = run_graph(self.quantised(spared), self._trial[:photographs])
        return Agreement.between(self._references[:photographs], _clipped(outputs))

    def cost(self, spared: Collection[str]) -> Int8Cost:
        images = [pair.lr[None] for pair in self._pairs]
        full, reduced = run_graph(self._body, images), run_graph(self.quantised(spared), images)
        return Int8Cost(
            form=self._form,
            convolutions=len(self._all) - len(spared),
            eligible=len(self._all),
            psnr_db=Agreement.between(_clipped(full), _clipped(reduced)).psnr_db,
            float32_psnr_y_db=self._quality(full),
            int8_psnr_y_db=self._quality(reduced),
        )

    def _quality(self, outputs: Sequence[Pixels]) -> float:
        """Return the mean PSNR on luma against the originals."""
        values = []
        for pair, output in zip(self._pairs, outputs, strict=True):
            found = score(pair.hr, to_uint8(output[0]), border=len(pair.hr) // len(pair.lr)).psnr_y
            values.append(IDENTICAL_PSNR_DB if found is None else found)
        return float(np.mean(values))


def _clipped(outputs: Sequence[Pixels]) -> list[Pixels]:
    return [np.clip(output, 0, 255) for output in outputs]
