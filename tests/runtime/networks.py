"""Small ONNX networks whose result is known in closed form."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from drc_deploy.engine_info import (
    INPUT_NAME,
    KERNEL_NAME,
    KERNEL_SUFFIX,
    METADATA_KEY,
    OUTPUT_NAME,
    RESTORER_SUFFIX,
    EngineInfo,
    IoDtype,
)
from tests.runtime.fake_backend import fake_info


def write_nearest(path: Path, *, scale: int = 4, io_dtype: IoDtype = "uint8", metadata: bool = True) -> EngineInfo:
    """Write a nearest-neighbour network of any size, as ``drc-deploy export`` would describe it."""
    scales = numpy_helper.from_array(np.array([1, scale, scale, 1], np.float32), "scales")
    nodes = [
        helper.make_node("Cast", [INPUT_NAME], ["float"], to=TensorProto.FLOAT),
        helper.make_node(
            "Resize",
            ["float", "", "scales"],
            ["large"],
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        helper.make_node("Cast", ["large"], [OUTPUT_NAME], to=_element_type(io_dtype)),
    ]
    info = dataclasses.replace(fake_info(scale=scale, io_dtype=io_dtype), model="nearest")
    _save(path, nodes, [scales], info if metadata else None, io_dtype)
    return info


def write_box(path: Path, *, scale: int = 2, value: float = 1 / 9) -> EngineInfo:
    """Write a float32 network that averages 3x3 pixels with zeros outside, then enlarges by nearest neighbour."""
    weight = np.zeros((3, 3, 3, 3), np.float32)
    weight[range(3), range(3)] = value
    tensors = [
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "scales"),
    ]
    nodes = [
        helper.make_node("Transpose", [INPUT_NAME], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weight"], ["mean"], pads=[1, 1, 1, 1]),
        helper.make_node(
            "Resize",
            ["mean", "", "scales"],
            ["large"],
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        helper.make_node("Transpose", ["large"], [OUTPUT_NAME], perm=[0, 2, 3, 1]),
    ]
    info = dataclasses.replace(fake_info(scale=scale, io_dtype="float32", receptive_field=1), model="box")
    _save(path, nodes, tensors, info, "float32")
    return info


def write_windows(path: Path, window: int, *, scale: int = 2) -> EngineInfo:
    """Write a float32 nearest-neighbour network that fails where a side is no multiple of ``window``."""
    tensors = [numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "scales")]
    nodes = [
        helper.make_node("Transpose", [INPUT_NAME], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("SpaceToDepth", ["planes"], ["windows"], blocksize=window),
        helper.make_node("DepthToSpace", ["windows"], ["same"], blocksize=window),
        helper.make_node(
            "Resize",
            ["same", "", "scales"],
            ["large"],
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        helper.make_node("Transpose", ["large"], [OUTPUT_NAME], perm=[0, 2, 3, 1]),
    ]
    info = dataclasses.replace(fake_info(scale=scale, io_dtype="float32"), model="windows", multiple_of=window)
    _save(path, nodes, tensors, info, "float32")
    return info


def write_blind(path: Path, *, scale: int = 2) -> EngineInfo:
    """Write a blind float32 network and its parts.

    Its kernel is a single number, the mean of an image as a share of white, and its image is the image times that,
    enlarged by nearest neighbour.
    """
    tensors = [
        numpy_helper.from_array(np.array([1, scale, scale, 1], np.float32), "scales"),
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.float32(255), "white"),
    ]
    estimate = [
        helper.make_node("ReduceMean", [INPUT_NAME, "axes"], ["mean"], keepdims=1),
        helper.make_node("Div", ["mean", "white"], [KERNEL_NAME]),
    ]
    restore = [
        helper.make_node("Mul", [INPUT_NAME, KERNEL_NAME], ["product"]),
        helper.make_node(
            "Resize",
            ["product", "", "scales"],
            [OUTPUT_NAME],
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
    ]
    info = dataclasses.replace(
        fake_info(scale=scale, io_dtype="float32", global_operations=True), model="blind", kernel_size=1
    )
    lr: tuple[str, list[str | int]] = (INPUT_NAME, ["n", "h", "w", 3])
    sr: tuple[str, list[str | int]] = (OUTPUT_NAME, ["n", "sh", "sw", 3])
    found: tuple[str, list[str | int]] = (KERNEL_NAME, ["n", 1, 1, 1])
    given: tuple[str, list[str | int]] = (KERNEL_NAME, [1, 1, 1, 1])
    for suffix, nodes, inputs, output in (
        (".onnx", [*estimate, *restore], [lr], sr),
        (KERNEL_SUFFIX, estimate, [lr], found),
        (RESTORER_SUFFIX, restore, [lr, given], sr),
    ):
        used = {name for node in nodes for name in node.input}
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (*inputs, output)]
        graph = helper.make_graph(
            nodes, "test", values[:-1], values[-1:], [value for value in tensors if value.name in used]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        helper.set_model_props(model, {METADATA_KEY: info.to_json()})
        onnx.save(model, path.with_suffix(suffix))
    return info


def _element_type(io_dtype: IoDtype) -> int:
    return {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}[io_dtype]


def _save(path: Path, nodes: list[Any], tensors: list[Any], info: EngineInfo | None, io_dtype: IoDtype) -> None:
    element = _element_type(io_dtype)
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(INPUT_NAME, element, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info(OUTPUT_NAME, element, ["n", "sh", "sw", 3])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if info is not None:
        helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    onnx.save(model, path)


def nearest(image: NDArray[Any], scale: int) -> NDArray[Any]:
    """Enlarge (H, W, ...) by repeating pixels."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)
