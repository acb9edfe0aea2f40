import contextlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from drc_deploy.errors import ArtefactError
from drc_deploy.onnx_metadata import read_onnx_metadata


def _model(properties: dict[str, str], weights: int = 10) -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [weights])
    noise = np.random.default_rng(0).standard_normal(weights).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "graph",
        [value],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [weights])],
        [numpy_helper.from_array(noise, "w")],
    )
    model = helper.make_model(graph, producer_name="a program")
    helper.set_model_props(model, properties)
    return model


@pytest.mark.parametrize("weights", [1, 100_000])
@pytest.mark.parametrize("properties", [{}, {"a": "b"}, {"key": '{"x": 1}', "ü": "", "": "long " * 10_000}])
def test_what_onnx_writes_is_read(weights: int, properties: dict[str, str], tmp_path: Path) -> None:
    onnx.save(_model(properties, weights), tmp_path / "x.onnx")
    assert read_onnx_metadata(tmp_path / "x.onnx") == properties


CONTENT = _model({"key": "value", "other": "text"}).SerializeToString()


@pytest.mark.parametrize("length", range(len(CONTENT)))
def test_a_file_that_ends_too_soon_gives_less_or_an_error(length: int, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(CONTENT[:length])
    found: dict[str, str] = {}
    with contextlib.suppress(ArtefactError):
        found = read_onnx_metadata(tmp_path / "x.onnx")
    assert found.items() < {"key": "value", "other": "text"}.items()


@given(st.binary(max_size=200))
def test_no_file_gives_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    with contextlib.suppress(ArtefactError):
        read_onnx_metadata(path)


def test_a_file_that_is_not_there_or_a_folder_is_a_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.onnx", tmp_path):
        with pytest.raises(ArtefactError, match="cannot read"):
            read_onnx_metadata(path)
