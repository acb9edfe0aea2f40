"""Which layer of a graph is the first to go wrong in half precision."""

import numpy as np
import onnx

from drc_deploy.export.compare.graph_runs import tensors
from drc_deploy.export.compare.widening import widen
from drc_deploy.export.graph.graph_edit import layer_of
from drc_deploy.export.precision.half_graph import half_tensors
from drc_deploy.runtime.backends.contract import Pixels

DEVIATION = 0.05
"""Relative error at which a layer counts as wrong: fifty times what one rounding to float16 costs."""


def find_layer_fault(full: onnx.ModelProto, half: onnx.ModelProto, batch: Pixels) -> str | None:
    """Compare every result that is of half precision with that in float32, in the order of computation.

    Args:
        full: the graph in float32.
        half: the same in half precision, from ``to_half``.
        batch: (N, H, W, 3) pixels for both.

    Returns:
        Name and fault of the first layer that overflows or deviates by more than ``DEVIATION``; None without one.
    """
    halves = half_tensors(half)
    nodes = [node for node in full.graph.node if node.output[0] in halves]
    names = [node.output[0] for node in nodes]
    pairs = zip(tensors(full, names, batch), tensors(widen(half, rounding=True), names, batch), strict=True)
    for node, (expected, found) in zip(nodes, pairs, strict=True):
        largest = float(np.abs(expected).max())
        if not np.isfinite(expected).all():
            return f"{layer_of(node)}, whose output is not finite even in float32"
        if not np.isfinite(found).all():
            return f"{layer_of(node)}, which overflows: up to {largest:.4g} in float32"
        deviation = float(np.linalg.norm(found - expected) / max(float(np.linalg.norm(expected)), 1e-12))
        if deviation > DEVIATION:
            return f"{layer_of(node)}, which deviates by {deviation:.1%} (up to {largest:.4g} in float32)"
    return None
