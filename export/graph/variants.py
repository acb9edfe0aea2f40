"""The files that users run, made from one float graph: uint8 or float32 pixels, any size or one tile."""

from copy import deepcopy

import numpy as np
import onnx
from onnx import TensorProto, helper

from drc_deploy.engine_info import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, EngineInfo
from drc_deploy.export.graph.graph_edit import add_constants

_BODY_INPUT, _BODY_OUTPUT = "lr_pixels", "sr_pixels"


def make_variant(body: onnx.ModelProto, info: EngineInfo) -> onnx.ModelProto:
    """Return the graph that ``info`` describes.

    The result is clipped to [0, 255]. With uint8 it is then rounded half up, as the runtime rounds float results;
    the casts are the first and the last operation, because TensorRT knows uint8 only there.

    Args:
        body: float32 NHWC pixels in, float32 NHWC pixels out, from ``trace_graph``. Left as it is.
        info: metadata of the file.

    Raises:
        onnx.checker.ValidationError: the result is not valid, which is a fault of this program.
    """
    model = deepcopy(body)
    _rename(model, {INPUT_NAME: _BODY_INPUT, OUTPUT_NAME: _BODY_OUTPUT})
    _add_entry(model, info)
    _add_exit(model, info)
    _declare_shapes(model, info)
    model.producer_name = "drc-deploy"
    describe(model, info)
    onnx.checker.check_model(model, full_check=True)
    return model


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _add_entry(model: onnx.ModelProto, info: EngineInfo) -> None:
    if info.io_dtype == "uint8":
        entry = helper.make_node("Cast", [INPUT_NAME], [_BODY_INPUT], "to_float", to=TensorProto.FLOAT)
        model.graph.node.insert(0, entry)
    else:
        _rename(model, {_BODY_INPUT: INPUT_NAME})


def _add_exit(model: onnx.ModelProto, info: EngineInfo) -> None:
    add_constants(model, {"black": np.float32(0), "white": np.float32(255)})
    clip = [_BODY_OUTPUT, "black", "white"]
    if info.io_dtype == "float32":
        model.graph.node.append(helper.make_node("Clip", clip, [OUTPUT_NAME], "clip"))
        return
    add_constants(model, {"half": np.float32(0.5)})
    model.graph.node.extend(
        (
            helper.make_node("Clip", clip, ["sr_clipped"], "clip"),
            helper.make_node("Add", ["sr_clipped", "half"], ["sr_half_up"], "half_up"),
            helper.make_node("Floor", ["sr_half_up"], ["sr_rounded"], "round"),
            helper.make_node("Cast", ["sr_rounded"], [OUTPUT_NAME], "to_uint8", to=TensorProto.UINT8),
        )
    )


def _declare_shapes(model: onnx.ModelProto, info: EngineInfo) -> None:
    """Declare the input and output; a fixed tile changes nothing but these shapes."""
    element = TensorProto.UINT8 if info.io_dtype == "uint8" else TensorProto.FLOAT
    lr: list[int | str] = ["batch", "height", "width"]
    sr: list[int | str] = ["batch", "sr_height", "sr_width"]
    if info.tile is not None:
        batch = 1 if info.max_batch == 1 else "batch"
        lr = [batch, *info.tile]
        sr = [batch, *(info.scale * side for side in info.tile)]
    del model.graph.input[:], model.graph.output[:]
    model.graph.input.append(helper.make_tensor_value_info(INPUT_NAME, element, [*lr, 3]))
    model.graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, element, [*sr, 3]))


def describe(model: onnx.ModelProto, info: EngineInfo) -> None:
    """Set the metadata: the record that the runtime reads, and the same in words for other programs' viewers."""
    any_size = "any height and width" if info.taken_side(1) == 1 else f"height and width {info.sides}"
    size = any_size if info.tile is None else f"{info.tile[0]} x {info.tile[1]}"
    properties = {
        METADATA_KEY: info.to_json(),
        "model": info.model,
        "scale": str(info.scale),
        "precision": info.precision,
        "input": f"{INPUT_NAME}: {info.io_dtype} NHWC RGB in [0, 255], {size}, batch 1 to {info.max_batch}",
        "output": f"{OUTPUT_NAME}: {info.io_dtype} NHWC RGB in [0, 255], {info.scale} times the size",
        "receptive_field": f"{info.receptive_field} input pixels on each side",
        "parameters": str(info.params),
        "checkpoint_sha256": info.checkpoint_sha256,
    }
    if info.multiple_of > 1:
        properties["tiles"] = f"cut out of an image at multiples of {info.multiple_of} input pixels"
    onnx.helper.set_model_props(model, properties)
