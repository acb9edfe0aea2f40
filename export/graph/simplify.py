"""Exact rewrites of an exported graph that make it faster, and its opset older, so that more parsers read it."""

from typing import TYPE_CHECKING

from drc_deploy.export.graph.cubic import replace_cubic_resizes
from drc_deploy.export.graph.folding import fold_pointwise_convolutions
from drc_deploy.export.graph.graph_edit import attributes_of

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 17
"""The newest that TensorRT 8.6 reads, which JetPack 6.0 has; torch's exporter writes none below 18."""


def simplify_graph(model: "onnx.ModelProto") -> None:
    """Rewrite ``model`` in place, for any size and batch: the results differ by rounding only."""
    replace_cubic_resizes(model)
    # After it, because the mean shift behind the enlargement folds into its convolution.
    fold_pointwise_convolutions(model)
    lower_opset(model)


def lower_opset(model: "onnx.ModelProto") -> None:
    """Declare ``OLDEST_OPSET`` where every operation of ``model`` means the same there, in place.

    Opset 18 changed few operations. Of them an exported network has ``Resize``, ``ReduceMean`` and ``Pad``; after the
    rewrites only Pad is left, in its old form.
    """
    (default,) = (entry for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    if default.version > OLDEST_OPSET and all(_is_old(node, default.version) for node in model.graph.node):
        default.version = OLDEST_OPSET


def _is_old(node: "onnx.NodeProto", opset: int) -> bool:
    import onnx

    if node.op_type == "Pad":  # younger versions added axes as a fourth input, and a mode
        return len(node.input) <= 3 and attributes_of(node).get("mode") != b"wrap"
    since: int = onnx.defs.get_schema(node.op_type, opset, node.domain).since_version
    return since <= OLDEST_OPSET
