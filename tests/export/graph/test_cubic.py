from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch.nn import functional as F

from drc_deploy.export.graph.cubic import cubic_kernels, replace_cubic_resizes

TORCHS = {"mode": "cubic", "coordinate_transformation_mode": "pytorch_half_pixel", "cubic_coeff_a": -0.75}


def _resize(
    scales: list[float], *, channels: int = 3, element: int = TensorProto.FLOAT, **attributes: Any
) -> onnx.ModelProto:
    shape: list[str | int | None] = ["n", channels, "h", "w"]
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], **{**TORCHS, **attributes})],
        "resize",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, ["n", channels, "sh", "sw"])],
        [helper.make_tensor("scales", TensorProto.FLOAT, [4], scales)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _rewritten(scale: int) -> onnxruntime.InferenceSession:
    model = _resize([1, 1, scale, scale])
    replace_cubic_resizes(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Pad", "Conv", "DepthToSpace"]
    return onnxruntime.InferenceSession(model.SerializeToString())


SESSIONS = {scale: _rewritten(scale) for scale in (2, 3, 4, 8)}


@settings(deadline=None)
@given(
    scale=st.sampled_from(sorted(SESSIONS)),
    batch=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_any_size_and_batch_is_what_torch_interpolates(
    scale: int, batch: int, height: int, width: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (batch, 3, height, width)).astype(np.float32)
    (found,) = SESSIONS[scale].run(None, {"x": pixels})
    expected = F.interpolate(torch.from_numpy(pixels), scale_factor=float(scale), mode="bicubic").numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)  # torch has positions in float32


def test_each_phase_has_sum_one_and_the_last_mirrors_the_first() -> None:
    kernels = cubic_kernels(4, -0.75)
    np.testing.assert_allclose(kernels.sum((1, 2)), 1, atol=1e-15)
    np.testing.assert_allclose(kernels, kernels[::-1, ::-1, ::-1])
    assert np.abs(cubic_kernels(3, -0.75)[4] - np.pad([[1.0]], 2)).max() == 0  # an output centred on an input pixel


@pytest.mark.parametrize(
    ("scales", "changes"),
    [
        ([1, 1, 2, 3], {}),
        ([1, 1, 2.5, 2.5], {}),
        ([1, 1, 0.5, 0.5], {}),
        ([1, 1, 2, 2], {"mode": "linear"}),
        ([1, 1, 2, 2], {"coordinate_transformation_mode": "align_corners"}),
        ([1, 1, 2, 2], {"exclude_outside": 1}),
        ([1, 1, 2, 2], {"channels": 16}),
        ([1, 1, 2, 2], {"element": TensorProto.FLOAT16}),
    ],
)
def test_another_resize_stays_as_it_is(scales: list[float], changes: dict[str, Any]) -> None:
    model = _resize(scales, **changes)
    before = model.SerializeToString()
    replace_cubic_resizes(model)
    assert model.SerializeToString() == before
