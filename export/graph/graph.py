"""A torch network as an ONNX graph of float32 NHWC pixels: the body that every exported variant shares."""

import ast
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from numpy.typing import NDArray

from drc_deploy.engine_info import INPUT_NAME, KERNEL_NAME, OUTPUT_NAME, Precision
from drc_deploy.errors import VerificationError
from drc_deploy.export.compare.reference import BlindPixelNetwork, PixelNetwork
from drc_deploy.export.graph.cubic import replace_cubic_resizes
from drc_deploy.export.graph.folding import fold_pointwise_convolutions
from drc_deploy.export.graph.graph_edit import attributes_of, constants_of, drop_unused_constants
from drc_deploy.models.blind import BlindNetwork
from drc_deploy.models.foreign import ForeignNetwork
from drc_deploy.models.network import SRNetwork
from drc_deploy.progress import progress

OPSETS: dict[Precision, int] = {"fp32": 18, "fp16": 18, "bf16": 22}
"""The oldest that torch's exporter writes: the more parsers read it. In bfloat16, convolutions exist since 22."""
OLDEST_OPSET = 17
"""The newest that TensorRT 8.6 reads, which JetPack 6.0 has; torch's exporter writes none below 18."""
TRACE_SHAPE = (2, 24, 20, 3)
"""Shape of the example that is traced for any size, or the next that the network takes. The check runs on other sizes
and batches, so that none is burnt in."""

_SCOPES = "pkg.torch.onnx.name_scopes"
_LOGGERS = (
    "torch.onnx._internal.exporter._registration",  # that torchvision, which is not needed, is not installed
    "onnxscript.optimizer._constant_folding",  # each operation of several outputs
    "torch._guards",  # the traceback of a size that is burnt in, which is an error of ours
)


def trace_graph(
    network: PixelNetwork, precision: Precision = "fp32", tile: tuple[int, int] | None = None
) -> onnx.ModelProto:
    """Export to ONNX, for any batch, height and width, without names or paths of this machine in the file.

    Args:
        network: in float32.
        precision: that its body will have, which decides on the opset.
        tile: the only height and width that the graph will take, with a batch of one; None for any.

    Raises:
        VerificationError: torch found that the network computes something that depends on the traced size.
    """
    with _quiet_exporter(), torch.no_grad(), progress("Tracing the network", 1) as bar:
        model = _export_onnx(network, OPSETS[precision], tile)
        bar.advance()
    _name_after_modules(model)
    _remove_traces(model)
    _use_global_pooling(model)
    return model


def _export_onnx(network: PixelNetwork, opset: int, tile: tuple[int, int] | None) -> "onnx.ModelProto":
    program = torch.onnx.export(
        _export_program(network, tile),
        dynamo=True,
        optimize=True,
        opset_version=opset,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME, KERNEL_NAME][: 1 + isinstance(network.network, BlindNetwork)],
        verbose=False,
    )
    assert program is not None  # it is None only for the old exporter
    model: onnx.ModelProto = program.model_proto
    return model


def _export_program(network: PixelNetwork, tile: tuple[int, int] | None) -> torch.export.ExportedProgram:
    """Trace for one tile, or for any size: then one that is burnt in is an error.

    For any size, a network of another program is traced strictly, from its code: it may keep what it computed, which
    would last beyond a trace that runs it. Running takes two thirds of the time of that, and makes the same graph.
    """
    example, sizes = _example(network.network, tile)
    try:
        if tile is not None:
            network(example)  # what it keeps outside itself, such as masks, must not be made during the trace
        inner = network.network
        return torch.export.export(
            BlindPixelNetwork(inner) if isinstance(inner, BlindNetwork) else network,
            (example,),
            dynamic_shapes={"lr": sizes},
            strict=tile is None and isinstance(network.network, ForeignNetwork),
            # scale * height is computed in floating point, and torch cannot prove that it stays even.
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    except Exception as error:  # torch's own errors have no common public base
        size = "every size" if tile is None else f"a tile of {tile[0]}x{tile[1]}"
        raise VerificationError(
            f"torch cannot export the network for {size}: {str(error).strip().splitlines()[0]}",
            "A layer computes with a fixed size, or looks at values of the image: make it use the shape of its input."
            if tile is None
            else "Run the checkpoint itself: upscale, eval and bench take it.",
        ) from error


def _example(network: SRNetwork, tile: tuple[int, int] | None) -> tuple[torch.Tensor, dict[int, Any]]:
    """Return pixels to trace with, and which sides of them stand for others."""
    if tile is not None:
        return torch.full((1, *tile, 3), 127.0), {}
    batch, *sides, channels = TRACE_SHAPE
    step = network.multiple_of
    # Torch takes a side of 1 for a constant, and near the least one, planes that were pooled have it.
    height, width = (network.taken_side(max(side, 4 * network.minimum)) for side in sides)
    width += step * (height == width)  # or torch would take the sides for one
    free = [torch.export.Dim(name, min=-(-network.minimum // step)) for name in ("height", "width")]
    free = [step * side for side in free] if step > 1 else free
    return torch.full((batch, height, width, channels), 127.0), dict(enumerate((torch.export.Dim("batch"), *free)))


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's notes about itself, and the network's own warnings: a user can do nothing about either."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _name_after_modules(model: onnx.ModelProto) -> None:
    """Name each node after the module that it is of, ``body.0.conv/conv2d``; none where it is of no single one."""
    for node in model.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "['']")
        module = ast.literal_eval(scopes)[-2:-1]  # the last is the operation
        prefix = [name.removeprefix("network.") for name in module if name.startswith("network.")]
        node.name = "/".join([*prefix, node.output[0]])


def _remove_traces(model: onnx.ModelProto) -> None:
    """Remove source positions, which hold paths of this machine, and intermediate shapes, which edits outdate."""
    graph = model.graph
    del graph.value_info[:]
    del model.metadata_props[:], graph.metadata_props[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""


def _use_global_pooling(model: onnx.ModelProto) -> None:
    """Write the mean over height and width as GlobalAveragePool.

    Since opset 18 the axes of ReduceMean are an input, which a parser made for opset 17 does not read.
    """
    constants = constants_of(model)
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    planes = {value.name for value in inferred if len(value.type.tensor_type.shape.dim) == 4}
    for node in model.graph.node:
        if node.op_type == "ReduceMean" and node.input[0] in planes and _is_spatial_mean(node, constants):
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]
    drop_unused_constants(model)


def _is_spatial_mean(node: onnx.NodeProto, constants: dict[str, NDArray[Any]]) -> bool:
    keeps = all(attribute.i == 1 for attribute in node.attribute if attribute.name == "keepdims")
    if len(node.input) < 2 or node.input[1] not in constants or not keeps:
        return False
    axes = sorted(constants[node.input[1]].tolist())
    return axes in ([2, 3], [-2, -1])


def simplify_graph(model: onnx.ModelProto) -> None:
    """Rewrite ``model`` in place, for any size and batch: the results differ by rounding only."""
    replace_cubic_resizes(model)
    # After it, because the mean shift behind the enlargement folds into its convolution.
    fold_pointwise_convolutions(model)
    lower_opset(model)


def lower_opset(model: onnx.ModelProto) -> None:
    """Declare ``OLDEST_OPSET`` where every operation of ``model`` means the same there, in place.

    Opset 18 changed few operations. Of them an exported network has ``Resize``, ``ReduceMean`` and ``Pad``; after the
    rewrites only Pad is left, in its old form.
    """
    (default,) = (entry for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    if default.version > OLDEST_OPSET and all(_is_old(node, default.version) for node in model.graph.node):
        default.version = OLDEST_OPSET


def _is_old(node: onnx.NodeProto, opset: int) -> bool:
    if node.op_type == "Pad":  # younger versions added axes as a fourth input, and a mode
        return len(node.input) <= 3 and attributes_of(node).get("mode") != b"wrap"
    since: int = onnx.defs.get_schema(node.op_type, opset, node.domain).since_version
    return since <= OLDEST_OPSET
