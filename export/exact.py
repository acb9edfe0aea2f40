"""The graph of ``upscale --exact``: means over the whole image are told to it, instead of taken from the tile.

A network with channel attention looks at the mean of every channel, which in a tile is another than in the image. The
exact graph tells the means that it saw in a part of the tile, and takes others in their place. After passes over all
tiles, the means of the image are known well enough for the result to differ from the untiled one by at most one grey
level (``runtime/exact.py``).
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drc_deploy.engine_info import GIVEN_NAME, INPUT_NAME, KEPT_NAME, MEANS_NAME, SEEN_NAME, EngineInfo
from drc_deploy.errors import UsageError, VerificationError
from drc_deploy.export.graph_edit import replace_node
from drc_deploy.export.samples import tile_batch
from drc_deploy.export.variants import describe, make_variant
from drc_deploy.files import write_bytes
from drc_deploy.runtime.backend import open_backend
from drc_deploy.runtime.exact import ExactBackend
from drc_deploy.runtime.upscaler import Upscaler

if TYPE_CHECKING:
    import onnx

_LR_SIZE, _KEPT_START, _KEPT_STOP = "exact.lr_size", "exact.kept_start", "exact.kept_stop"


CHECK_PX, CHECK_TILE_PX = 96, 48
"""Sides of the image, and of its tiles, on which the exact graph is checked."""


def write_exact(
    body: "onnx.ModelProto",
    info: EngineInfo,
    path: Path,
    reference: Path,
    measure: Callable[[Path, EngineInfo], int | None],
) -> None:
    """Write the exact graph, and compare its tiles with the whole image.

    Args:
        body: the graph of all variants, from ``trace_graph``.
        info: of the variants.
        path: ``NAME.exact.onnx``.
        reference: the float32 variant, of any size.
        measure: tells the memory that the file takes, given what it says about itself without that.

    Raises:
        UsageError: the network takes no means over the whole image.
        VerificationError: its tiles are more than a grey level from the whole.
    """
    exact_info = dataclasses.replace(info, io_dtype="float32", tile=None, max_batch=1, cpu_bytes_per_pixel=None)
    model = make_exact(make_variant(body, exact_info))
    write_bytes(path, model.SerializeToString())
    image = tile_batch(1, CHECK_PX, CHECK_PX)[0]
    with Upscaler(open_backend(reference)) as whole, Upscaler(ExactBackend(path), tile=CHECK_TILE_PX) as tiled:
        difference = np.abs(whole(image).astype(int) - tiled(image)).max()
    if difference > 1:
        raise VerificationError(
            f"tiles of the exact graph are {difference} grey levels from the whole image.", "Export without --exact."
        )
    describe(model, dataclasses.replace(exact_info, cpu_bytes_per_pixel=measure(path, exact_info)))
    write_bytes(path, model.SerializeToString())


def make_exact(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Give a graph whose global means are inputs and outputs.

    Args:
        model: of float32 pixels and any size, from ``make_variant``. Left as it is.

    Returns:
        A graph with these beside ``INPUT_NAME`` and ``OUTPUT_NAME``, where K is the number of all channels whose means
        the network takes:

        - ``KEPT_NAME``: (4,) int64, top, left, bottom and right of the part of the tile, in input pixels, whose means
          are told. The same for all tiles of a batch.
        - ``MEANS_NAME``: (K,) float32, the means to use.
        - ``GIVEN_NAME``: (1,) bool, whether to use them, or those of the tile.
        - ``SEEN_NAME``: (N, K) float32, the means of the part.

    Raises:
        UsageError: the network has no global means, so that tiling is exact without this.
        VerificationError: something else than a mean looks at the whole tile, or the graph does not tell its channels.
    """
    import onnx

    exact = onnx.ModelProto()
    exact.CopyFrom(model)
    results = [node.output[0] for node in exact.graph.node if node.op_type == "GlobalAveragePool"]
    if not results:
        raise UsageError(
            "this network takes no means over the whole image: its tiles are exact as they are.", "Leave out --exact."
        )
    kinds = _kinds(exact)
    _share_sizes(exact)
    seen, offset = [], 0
    for index, result in enumerate(results):
        pool = next(node for node in exact.graph.node if result in node.output)  # anew: edits copy the nodes
        element, channels = kinds[pool.input[0]]
        seen.append(f"exact.{index}.seen")
        _open(exact, pool, f"exact.{index}", element, (offset, offset + channels))
        offset += channels
    exact.graph.node.append(onnx.helper.make_node("Concat", seen, [SEEN_NAME], "exact.concat", axis=1))
    _declare(exact, offset)
    onnx.checker.check_model(exact)
    return exact


def _kinds(model: "onnx.ModelProto") -> dict[str, tuple[int, int]]:
    """Give element type and number of channels of every NCHW tensor that is pooled.

    Raises:
        VerificationError: they cannot be found.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    tensors = {value.name: value.type.tensor_type for value in inferred.value_info}
    kinds = {}
    for node in model.graph.node:
        if node.op_type != "GlobalAveragePool":
            continue
        kind = tensors.get(node.input[0])
        if kind is None or len(kind.shape.dim) != 4 or kind.shape.dim[1].dim_value < 1:
            raise VerificationError(
                f"the graph does not tell how many channels {node.name or node.output[0]} averages.",
                "Export without --exact.",
            )
        kinds[node.input[0]] = kind.elem_type, kind.shape.dim[1].dim_value
    return kinds


def _share_sizes(model: "onnx.ModelProto") -> None:
    """Compute once what all pools need, before anything else."""
    from onnx import helper, numpy_helper

    constants = {"zero": [0], "one": [1], "two": [2], "three": [3], "four": [4], "sides": [2, 3]}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(values, np.int64), f"exact.{name}") for name, values in constants.items()
    )
    first = [
        helper.make_node("Shape", [INPUT_NAME], ["exact.lr_shape"], "exact.shape"),
        helper.make_node("Slice", ["exact.lr_shape", "exact.one", "exact.three"], [_LR_SIZE], "exact.lr_sides"),
        helper.make_node("Slice", [KEPT_NAME, "exact.zero", "exact.two"], [_KEPT_START], "exact.start"),
        helper.make_node("Slice", [KEPT_NAME, "exact.two", "exact.four"], [_KEPT_STOP], "exact.stop"),
    ]
    nodes = [*first, *(type(node).FromString(node.SerializeToString()) for node in model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _open(model: "onnx.ModelProto", pool: "onnx.NodeProto", name: str, element: int, place: tuple[int, int]) -> None:
    """Let one pool tell the means of the kept part, and take others, which lie at ``place`` among all."""
    from onnx import TensorProto, helper, numpy_helper

    features, result = pool.input[0], pool.output[0]
    begin, end, shape, count = (f"{name}.{part}" for part in ("begin", "end", "shape", "count"))
    channels = place[1] - place[0]
    model.graph.initializer.extend(
        (
            numpy_helper.from_array(np.array(place[:1], np.int64), begin),
            numpy_helper.from_array(np.array(place[1:], np.int64), end),
            numpy_helper.from_array(np.array([1, channels, 1, 1], np.int64), shape),
            numpy_helper.from_array(np.array([channels], np.int64), count),
        )
    )

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> "onnx.NodeProto":
        return helper.make_node(kind, inputs, [output], f"{output}.{kind}", **attributes)

    part = [f"{name}.{word}" for word in ("size", "sides", "factor", "top_left", "bottom_right", "part", "mean", "row")]
    size, sides, factor, top_left, bottom_right, kept, mean, row = part
    replace_node(
        model,
        pool,
        [
            node("GlobalAveragePool", [features], f"{name}.own"),
            node("Shape", [features], size),
            node("Slice", [size, "exact.two", "exact.four"], sides),
            node("Div", [sides, _LR_SIZE], factor),
            node("Mul", [_KEPT_START, factor], top_left),
            node("Mul", [_KEPT_STOP, factor], bottom_right),
            node("Slice", [features, top_left, bottom_right, "exact.sides"], kept),
            node("GlobalAveragePool", [kept], mean),
            node("Flatten", [mean], row, axis=1),
            node("Cast", [row], f"{name}.seen", to=TensorProto.FLOAT),
            node("Slice", [MEANS_NAME, begin, end], f"{name}.told"),
            node("Reshape", [f"{name}.told", shape], f"{name}.told_nchw"),
            node("Cast", [f"{name}.told_nchw"], f"{name}.told_cast", to=element),
            node("Where", [GIVEN_NAME, f"{name}.told_cast", f"{name}.own"], f"{name}.chosen"),
            # By way of both: or the mean would be taken last, and the part kept for every pool until then.
            node("Concat", [f"{name}.chosen", mean], f"{name}.both", axis=1),
            node("Slice", [f"{name}.both", "exact.zero", count, "exact.one"], result),
        ],
    )


def _declare(model: "onnx.ModelProto", count: int) -> None:
    from onnx import TensorProto, helper

    model.graph.input.extend(
        (
            helper.make_tensor_value_info(KEPT_NAME, TensorProto.INT64, [4]),
            helper.make_tensor_value_info(MEANS_NAME, TensorProto.FLOAT, [count]),
            helper.make_tensor_value_info(GIVEN_NAME, TensorProto.BOOL, [1]),
        )
    )
    model.graph.output.append(helper.make_tensor_value_info(SEEN_NAME, TensorProto.FLOAT, ["batch", count]))
