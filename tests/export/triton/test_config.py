from dataclasses import replace
from typing import Any

import pytest
from tritonclient.grpc.model_config_pb2 import DataType, ModelInstanceGroup

from drc_deploy import __version__
from drc_deploy.engine_info import EngineInfo
from drc_deploy.export.triton.config import Platform, model_config
from tests.export.triton.configs import parameters, parsed
from tests.runtime.fake_backend import fake_info

INFO = replace(fake_info(scale=4, max_batch=8, receptive_field=17), model="drn_xs", checkpoint_sha256="ab" * 32)


def config_of(info: EngineInfo, platform: Platform = "onnxruntime_onnx", **choices: Any) -> Any:
    return parsed(model_config("net", info, platform, **{"one_at_a_time": False, **choices}))


def shapes(config: Any) -> tuple[list[int], list[int]]:
    (taken,), (given,) = config.input, config.output
    assert (taken.name, given.name) == ("lr", "sr")
    assert taken.data_type == given.data_type == DataType.TYPE_UINT8
    return list(taken.dims), list(given.dims)


def test_a_network_of_any_size_takes_tiles_of_any_size_in_batches() -> None:
    config = config_of(INFO)
    assert (config.name, config.platform, config.max_batch_size) == ("net", "onnxruntime_onnx", 8)
    assert shapes(config) == ([-1, -1, 3], [-1, -1, 3])
    assert config.HasField("dynamic_batching")
    assert not config.dynamic_batching.preferred_batch_size


def test_a_plan_of_one_tile_says_both_sizes() -> None:
    config = config_of(replace(INFO, tile=(96, 128)), "tensorrt_plan")
    assert config.platform == "tensorrt_plan"
    assert shapes(config) == ([96, 128, 3], [384, 512, 3])


def test_a_batch_that_is_one_for_good_is_a_dimension_and_nothing_is_joined() -> None:
    config = config_of(replace(INFO, tile=(64, 64), max_batch=1), one_at_a_time=True)
    assert config.max_batch_size == 0
    assert shapes(config) == ([1, 64, 64, 3], [1, 256, 256, 3])
    assert not config.HasField("dynamic_batching")


def test_single_tiles_of_a_network_that_names_no_batch_are_not_joined() -> None:
    config = config_of(replace(INFO, max_batch=1))
    assert (config.max_batch_size, config.HasField("dynamic_batching")) == (1, False)


@pytest.mark.parametrize(
    ("info", "platform", "kind"),
    [
        (INFO, "onnxruntime_onnx", "KIND_AUTO"),
        (INFO, "tensorrt_plan", "KIND_GPU"),
        (replace(INFO, precision="bf16"), "onnxruntime_onnx", "KIND_GPU"),
        (replace(INFO, precision="int8", int8_form="cpu"), "onnxruntime_onnx", "KIND_CPU"),
        (replace(INFO, precision="int8", int8_form="tensorrt"), "onnxruntime_onnx", "KIND_AUTO"),
    ],
)
def test_it_runs_where_its_kind_of_file_can(info: EngineInfo, platform: Platform, kind: str) -> None:
    (group,) = config_of(info, platform).instance_group
    assert ModelInstanceGroup.Kind.Name(group.kind) == kind
    assert not group.secondary_devices


def test_a_plan_for_a_dla_names_its_core() -> None:
    (group,) = config_of(replace(INFO, max_batch=1), "tensorrt_plan", dla_core=1).instance_group
    (device,) = group.secondary_devices
    assert (device.kind, device.device_id) == (ModelInstanceGroup.SecondaryDevice.KIND_NVDLA, 1)


def test_clients_read_what_tiles_need_and_which_network_it_is() -> None:
    assert parameters(config_of(replace(INFO, multiple_of=2, minimum=16))) == {
        "drc_deploy": __version__,
        "model": "drn_xs",
        "precision": "fp32",
        "checkpoint_sha256": "ab" * 32,
        "pixels": "NHWC RGB in [0, 255]",
        "scale": "4",
        "receptive_field": "17",
        "multiple_of": "2",
        "minimum": "16",
    }


@pytest.mark.parametrize("name", ['a"b', "a\\nb", "a b", "ünï 模型", "'", "{}", "a#b"])
def test_any_printable_name_is_read_back(name: str) -> None:
    config = parsed(model_config(name, replace(INFO, model=name), "onnxruntime_onnx", one_at_a_time=False))
    assert (config.name, parameters(config)["model"]) == (name, name)
