"""``config.pbtxt``, what Triton reads of a model: the message ModelConfig in protobuf's text format.

Sources: ``protobuf/model_config.proto`` of triton-inference-server/common, and its guide, "Model Configuration" and
"Batchers". A text of a dozen lines is written here without protobuf, which a Jetson need not have.
"""

import json
from typing import Literal

from drc_deploy import __version__
from drc_deploy.engine_info import INPUT_NAME, OUTPUT_NAME, EngineInfo

Platform = Literal["onnxruntime_onnx", "tensorrt_plan"]

_TEXT = """\
name: {name}
platform: "{platform}"
max_batch_size: {most}
input {{ name: "{lr}" data_type: TYPE_UINT8 dims: {lr_dims} }}
output {{ name: "{sr}" data_type: TYPE_UINT8 dims: {sr_dims} }}
instance_group {{ {group} }}
"""


def model_config(
    name: str, info: EngineInfo, platform: Platform, *, one_at_a_time: bool, dla_core: int | None = None
) -> str:
    """Return the configuration of a network of 8-bit pixels.

    Args:
        name: of the model, and of its folder.
        info: of the network's file.
        platform: what the file is.
        one_at_a_time: whether the file's batch is 1 for good: then clients send that dimension too, and nothing joins
            requests to batches.
        dla_core: that a plan was built for.
    """
    sides = info.tile or (-1, -1)
    enlarged = [side * info.scale if side > 0 else side for side in sides]
    batch = [1] if one_at_a_time else []
    text = _TEXT.format(
        name=_quoted(name),
        platform=platform,
        most=0 if one_at_a_time else info.max_batch,
        lr=INPUT_NAME,
        lr_dims=[*batch, *sides, 3],
        sr=OUTPUT_NAME,
        sr_dims=[*batch, *enlarged, 3],
        group=_group(info, platform, dla_core),
    )
    if info.max_batch > 1:
        # Without preferred sizes: the guide advises against them where all batches have one profile.
        text += "dynamic_batching { }\n"
    return text + "".join(
        f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}\n"
        for key, value in _parameters(info).items()
    )


def _group(info: EngineInfo, platform: Platform, dla_core: int | None) -> str:
    """Return on what the model runs: a GPU where there is one, unless only one kind of device can."""
    if dla_core is not None:
        return f"kind: KIND_GPU secondary_devices {{ kind: KIND_NVDLA device_id: {dla_core} }}"
    if platform == "tensorrt_plan" or info.precision == "bf16":
        return "kind: KIND_GPU"
    return "kind: KIND_CPU" if info.int8_form == "cpu" else "kind: KIND_AUTO"


def _parameters(info: EngineInfo) -> dict[str, str]:
    """Return what a client needs to know to cut an image into tiles, and what says which network this is."""
    return {
        "drc_deploy": __version__,
        "model": info.model,
        "precision": info.precision,
        "checkpoint_sha256": info.checkpoint_sha256,
        "pixels": "NHWC RGB in [0, 255]",
        "scale": str(info.scale),
        "receptive_field": str(info.receptive_field),
        "multiple_of": str(info.multiple_of),
        "minimum": str(info.minimum),
    }


def _quoted(text: str) -> str:
    """Return a string literal; of printable text those of JSON and of protobuf are the same."""
    return json.dumps(text, ensure_ascii=False)
