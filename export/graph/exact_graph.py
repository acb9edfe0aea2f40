"""The graph of ``upscale --exact``: means over the whole image are an input, instead of taken from the tile.

A network with channel attention looks at the mean of every channel, which in a tile is another than in the image. The
exact graph returns the means of a part of the tile, and takes others in their place. Passes over all
tiles find the means of the image, until the result differs from the untiled one by at most one grey level
(``runtime/tiling/exact.py``).
"""

import dataclasses
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from drc_deploy.engine_info import GIVEN_NAME, KEPT_NAME, MEANS_NAME, SEEN_NAME, EngineInfo
from drc_deploy.errors import UsageError, VerificationError
from drc_deploy.export.compare.samples import tile_batch
from drc_deploy.export.compare.widening import open_for_check, readable_on_cpu
from drc_deploy.export.graph.blind_graphs import make_parts
from drc_deploy.export.graph.graph_edit import add_constants, replace_node
from drc_deploy.export.graph.kept_masks import SHARE_NAME, add_masks, mask_name
from drc_deploy.export.graph.variants import describe, make_variant
from drc_deploy.files import write_bytes
from drc_deploy.runtime.tiling.exact import open_exact
from drc_deploy.runtime.tiling.memory_probe import measure_bytes_per_pixel
from drc_deploy.runtime.upscaler import Upscaler

PROBE_PX = 16
"""Side of the input for which the sizes of inner tensors are looked at."""


@dataclass(frozen=True, slots=True)
class _Check:
    """How tiles are compared with the whole image."""

    image_px: int
    tile_px: int
    """Sides of the image and of its tiles."""
    largest_difference: int
    """In grey levels."""


USUAL, OF_BLIND = _Check(96, 48, 1), _Check(192, 96, 2)
"""A blind network makes its smoothing filters of each tile, whatever its means are."""


def write_exact(
    body: onnx.ModelProto,
    info: EngineInfo,
    path: Path,
    reference: Path,
) -> None:
    """Write the exact graph, and compare its tiles with the whole image.

    Args:
        body: the graph of all variants, from ``trace_graph``.
        info: of the variants.
        path: ``NAME.exact.onnx``. Of a blind network, ``NAME.kernel.onnx`` lies next to it.
        reference: the float32 variant, of any size.

    Raises:
        UsageError: the network takes no means over the whole image.
        VerificationError: its tiles are further from the whole than ``_Check`` allows.
    """
    exact_info = dataclasses.replace(info, io_dtype="float32", tile=None, max_batch=1, cpu_bytes_per_pixel=None)
    model = make_variant(body, exact_info)
    if info.kernel_size is not None:
        _, model = make_parts(model, exact_info)
    model = make_exact(model)
    write_bytes(path, model.SerializeToString())
    check = OF_BLIND if info.kernel_size is not None else USUAL
    image = tile_batch(1, check.image_px, check.image_px)[0]
    with (
        open_for_check(reference) as backend,
        readable_on_cpu(path) as exact,
        Upscaler(backend) as whole,
        Upscaler(open_exact(exact), tile=check.tile_px) as tiled,
    ):
        difference = np.abs(whole(image).astype(int) - tiled(image)).max()
    if difference > check.largest_difference:
        raise VerificationError(
            f"tiles of the exact graph are {difference} grey levels from the whole image.", "Export without --exact."
        )
    describe(model, dataclasses.replace(exact_info, cpu_bytes_per_pixel=measure_bytes_per_pixel(path)))
    write_bytes(path, model.SerializeToString())


def make_exact(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose global means are inputs and outputs.

    Args:
        model: of float32 pixels and any size, from ``make_variant``. Left as it is.

    Returns:
        A graph with these next to ``INPUT_NAME`` and ``OUTPUT_NAME``, where K is the number of all channels whose means
        the network takes:

        - ``KEPT_NAME``: (4,) int64, top, left, bottom and right of the part of the tile, in input pixels, whose means
          are returned. The same for all tiles of a batch.
        - ``MEANS_NAME``: (K,) float32, the means to use.
        - ``GIVEN_NAME``: (1,) bool, whether to use them, or those of the tile.
        - ``SEEN_NAME``: (N, K) float32, the means of the part.

    Raises:
        UsageError: the network has no global means, so that tiling is exact without this.
        VerificationError: something else than a mean looks at the whole tile, or its number of channels is not known.
    """
    exact = deepcopy(model)
    pools = [node for node in exact.graph.node if node.op_type == "GlobalAveragePool"]
    small, large = (_tensors_of_probe(exact, side) for side in (PROBE_PX, 2 * PROBE_PX))
    # The mean of a tensor that is as large for every image is no mean over the image.
    pools = [node for node in pools if not all(_sizes(small, node)) or _sizes(small, node) != _sizes(large, node)]
    results = [node.output[0] for node in pools]
    if not results:
        raise UsageError(
            "this network takes no means over the whole image: its tiles are exact as they are.", "Leave out --exact."
        )
    pooled = _pooled_tensors(pools, small)
    add_masks(exact, {(tensor.element, tensor.factor) for tensor in pooled.values()})
    seen, offset = [], 0
    for index, result in enumerate(results):
        pool = next(node for node in exact.graph.node if result in node.output)  # anew: edits copy the nodes
        tensor = pooled[pool.input[0]]
        seen.append(f"exact.{index}.seen")
        _open(exact, pool, f"exact.{index}", tensor, offset)
        offset += tensor.channels
    exact.graph.node.append(onnx.helper.make_node("Concat", seen, [SEEN_NAME], "exact.concat", axis=1))
    _declare(exact, offset)
    onnx.checker.check_model(exact)
    return exact


@dataclass(frozen=True, slots=True)
class _PooledTensor:
    """An NCHW tensor whose means are taken."""

    element: int
    """Its type, as ONNX numbers it."""
    channels: int
    factor: int
    """How many times as high and wide as the input it is."""


_Tensors = dict[str, onnx.TypeProto.Tensor]
"""Types and shapes by name."""


def _sizes(tensors: _Tensors, pool: onnx.NodeProto) -> list[int]:
    """Return the shape of what is pooled, 0 for unknown sizes; empty where nothing is known."""
    kind = tensors.get(pool.input[0])
    return [dim.dim_value for dim in kind.shape.dim] if kind else []


def _pooled_tensors(pools: Sequence[onnx.NodeProto], tensors: _Tensors) -> dict[str, _PooledTensor]:
    """Describe every tensor that is pooled."""
    pooled = {}
    for node in pools:
        kind, sizes = tensors.get(node.input[0]), _sizes(tensors, node)
        if kind is None or len(sizes) != 4 or min(sizes) < 1 or sizes[2] % PROBE_PX or sizes[3] != sizes[2]:
            raise VerificationError(
                f"the number of channels or pixels that {node.name or node.output[0]} averages is not in the graph.",
                "Export without --exact.",
            )
        pooled[node.input[0]] = _PooledTensor(kind.elem_type, sizes[1], sizes[2] // PROBE_PX)
    return pooled


def _tensors_of_probe(model: onnx.ModelProto, side_px: int) -> _Tensors:
    """Return the types and shapes of all tensors for a square input."""
    probe = deepcopy(model)
    sides = probe.graph.input[0].type.tensor_type.shape.dim
    for side, size in zip(sides, (1, side_px, side_px, 3), strict=True):
        side.dim_value = size
    # What was found for any size would stay as it is.
    probe.graph.output[0].type.tensor_type.ClearField("shape")
    del probe.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(probe, data_prop=True).graph
    return {value.name: value.type.tensor_type for value in inferred.value_info}


def _open(model: onnx.ModelProto, pool: onnx.NodeProto, name: str, tensor: _PooledTensor, offset: int) -> None:
    """Make one pool return the means of the kept part, and take others, which begin at ``offset`` among all."""
    features, result = pool.input[0], pool.output[0]
    begin, end, shape, zero, count, axis = (
        f"{name}.{part}" for part in ("begin", "end", "shape", "zero", "count", "axis")
    )
    channels = tensor.channels
    sizes = {begin: [offset], end: [offset + channels], shape: [1, channels, 1, 1], count: [channels]}
    add_constants(model, {**sizes, zero: [0], axis: [1]})

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], f"{output}.{kind}", **attributes)

    kept, mean, row, wide = (f"{name}.{word}" for word in ("kept", "mean", "row", "wide"))
    replace_node(
        model,
        pool,
        [
            node("GlobalAveragePool", [features], f"{name}.own"),
            node("Mul", [features, mask_name(tensor.element, tensor.factor)], kept),
            node("GlobalAveragePool", [kept], mean),
            node("Flatten", [mean], row, axis=1),
            node("Cast", [row], wide, to=TensorProto.FLOAT),
            node("Mul", [wide, SHARE_NAME], f"{name}.seen"),
            node("Slice", [MEANS_NAME, begin, end], f"{name}.given"),
            node("Reshape", [f"{name}.given", shape], f"{name}.given_nchw"),
            node("Cast", [f"{name}.given_nchw"], f"{name}.told_cast", to=tensor.element),
            node("Where", [GIVEN_NAME, f"{name}.told_cast", f"{name}.own"], f"{name}.chosen"),
            # By way of both: or the mean would be taken last, and the part kept for every pool until then.
            node("Concat", [f"{name}.chosen", mean], f"{name}.both", axis=1),
            node("Slice", [f"{name}.both", zero, count, axis], result),
        ],
    )


def _declare(model: onnx.ModelProto, count: int) -> None:
    model.graph.input.extend(
        (
            helper.make_tensor_value_info(KEPT_NAME, TensorProto.INT64, [4]),
            helper.make_tensor_value_info(MEANS_NAME, TensorProto.FLOAT, [count]),
            helper.make_tensor_value_info(GIVEN_NAME, TensorProto.BOOL, [1]),
        )
    )
    model.graph.output.append(helper.make_tensor_value_info(SEEN_NAME, TensorProto.FLOAT, ["batch", count]))
