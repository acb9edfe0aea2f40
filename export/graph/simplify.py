"""Exact rewrites of an exported graph that make it faster and readable by more; what each buys is in its own file."""

from typing import TYPE_CHECKING

from drc_deploy.export.graph.cubic import replace_cubic_resizes
from drc_deploy.export.graph.folding import fold_pointwise_convolutions
from drc_deploy.export.graph.opset import lower_opset

if TYPE_CHECKING:
    import onnx


def simplify_graph(model: "onnx.ModelProto") -> None:
    """Rewrite ``model`` in place, for any size and batch: the results differ by rounding only."""
    replace_cubic_resizes(model)
    # After it, because the mean shift behind the enlargement folds into its convolution.
    fold_pointwise_convolutions(model)
    lower_opset(model)
