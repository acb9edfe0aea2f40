"""Bicubic enlargement as a convolution: the same numbers, computed where inference libraries are fast.

ONNX Runtime has no fast kernel for a cubic ``Resize`` on a CPU: with the convolution in its place, drn_xs takes 0.78
to 0.84 of the time (``python -m tests.benchmarks.graph_rewrites``).

Enlarging by a whole factor r has r*r *phases*, places of an output pixel between input pixels. Each phase is a fixed
kernel over at most 5x5 input pixels, and depth-to-space puts the phases where they belong.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from drc_deploy.export.graph.graph_edit import (
    add_constants,
    attributes_of,
    constants_of,
    drop_unused_constants,
    replace_node,
)

REACH = 2
"""Input pixels on each side of the nearest one that a phase can see."""
MOST_CHANNELS = 4
"""Of an image. The convolution is dense: with more channels, its zeros would cost more than it saves."""


def cubic_kernels(scale: int, a: float) -> NDArray[np.float64]:
    """Return the kernel of each phase: (scale * scale, 5, 5), phase y * scale + x, each of sum 1.

    Sample positions are those of half-pixel centres, as torch has them without ``align_corners``.

    Args:
        scale: whole factor, at least 2.
        a: coefficient of Keys, "Cubic convolution interpolation for digital image processing" (1981); torch has -0.75.
    """
    rows = np.zeros((scale, 2 * REACH + 1))
    for phase in range(scale):
        position = (phase + 0.5) / scale - 0.5
        first = int(np.floor(position)) - 1
        for tap in range(first, first + 4):
            rows[phase, tap + REACH] = _keys(abs(position - tap), a)
    kernels: NDArray[np.float64] = np.einsum("py,qx->pqyx", rows, rows).reshape(scale**2, *2 * (2 * REACH + 1,))
    return kernels


def _keys(distance: float, a: float) -> float:
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * (distance**3 - 5 * distance**2 + 8 * distance - 4)


def replace_cubic_resizes(model: onnx.ModelProto) -> None:
    """Write each cubic ``Resize`` of a float32 image by a whole factor as Pad, Conv and DepthToSpace, in place.

    Others stay as they are: another element type, more than ``MOST_CHANNELS`` channels, sides of unequal or broken
    factors, aligned corners, antialiasing.
    """
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    types = {value.name: value.type.tensor_type for value in (*inferred.value_info, *inferred.input)}
    constants = constants_of(model)
    for node in [node for node in model.graph.node if node.op_type == "Resize"]:
        channels, scale = _image_channels(types.get(node.input[0])), _whole_scale(node, constants)
        if channels and scale:
            _replace(model, node, channels, scale)
    drop_unused_constants(model)


def _image_channels(kind: Any) -> int | None:
    """Return the number of channels of a float32 NCHW image; None for anything else."""
    if kind is None or kind.elem_type != TensorProto.FLOAT or len(kind.shape.dim) != 4:
        return None
    channels: int = kind.shape.dim[1].dim_value
    return channels if 1 <= channels <= MOST_CHANNELS else None


def _whole_scale(node: onnx.NodeProto, constants: dict[str, NDArray[Any]]) -> int | None:
    """Return the factor of a bicubic enlargement as torch computes it; None for any other resize."""
    attributes = attributes_of(node)
    is_torchs = (
        attributes.get("mode") == b"cubic"
        and attributes.get("coordinate_transformation_mode") in (b"half_pixel", b"pytorch_half_pixel")
        and not attributes.get("exclude_outside")
        and not attributes.get("antialias")
        and not attributes.get("axes")
    )
    if not is_torchs or len(node.input) < 3 or node.input[2] not in constants:
        return None
    scales = constants[node.input[2]].tolist()
    if len(scales) != 4 or scales[:2] != [1, 1] or scales[2] != scales[3]:
        return None
    return int(scales[2]) if scales[2] >= 2 and scales[2] == int(scales[2]) else None


def _replace(model: onnx.ModelProto, node: onnx.NodeProto, channels: int, scale: int) -> None:
    kernels = cubic_kernels(scale, attributes_of(node).get("cubic_coeff_a", -0.75))
    weights = np.einsum("oi,pyx->opiyx", np.eye(channels), kernels).reshape(-1, channels, *kernels.shape[1:])
    name = node.output[0]
    padding, weight, padded, phases = (f"{name}.{part}" for part in ("padding", "weight", "padded", "phases"))
    add_constants(model, {padding: [0, 0, REACH, REACH] * 2, weight: weights.astype(np.float32)})
    replace_node(
        model,
        node,
        [
            helper.make_node("Pad", [node.input[0], padding], [padded], f"{name}.pad", mode="edge"),
            helper.make_node("Conv", [padded, weight], [phases], f"{name}.conv", kernel_shape=kernels.shape[1:]),
            helper.make_node("DepthToSpace", [phases], [name], f"{name}.depth_to_space", blocksize=scale, mode="CRD"),
        ],
    )
