"""Which provider of ONNX Runtime computes, how it is set up, and the message where it does not work."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from drc_deploy.engine_info import METADATA_KEY
from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.runtime.backends.ort import providers as onnx_providers
from drc_deploy.runtime.backends.ort.backend import OnnxRuntimeBackend
from drc_deploy.runtime.tiling.memory_plan import Images
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.backends.ort.fake_onnxruntime import CPU, CUDA, OPENVINO, FakeOnnxRuntime
from tests.runtime.networks import nearest, write_box, write_nearest

BATCH = np.random.default_rng(0).integers(0, 256, (1, 5, 7, 3), np.uint8)
has_openvino = pytest.mark.skipif(
    OPENVINO not in onnxruntime.get_available_providers(), reason="this onnxruntime has no OpenVINO"
)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    write_nearest(tmp_path / "n.onnx")
    return tmp_path / "n.onnx"


@pytest.mark.parametrize(
    ("flags", "safe"),
    [({"avx2", "avx512_vnni"}, False), ({"avx2", "avx_vnni"}, False), ({"avx2", "avx512f"}, True), (set(), True)],
)
def test_sums_of_int8_are_taken_slowly_only_where_they_would_overflow(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], safe: bool
) -> None:
    monkeypatch.setattr(onnx_providers, "cpu_flags", lambda: frozenset(flags))
    options = onnx_providers.session_options(threads=1)
    try:
        said = options.get_session_config_entry("session.x64quantprecision")
    except RuntimeError:  # it was never set
        said = "0"
    assert said == ("1" if safe else "0")


def test_threads_of_the_session_that_computes_do_not_keep_cores_while_they_wait(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    session = onnxruntime.InferenceSession

    def noted(*arguments: Any, **named: Any) -> Any:
        made.append(session(*arguments, **named))
        return made[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", noted)
    with open_backend(network, threads=2):
        settings = [each.get_session_options() for each in made]
    assert [each.get_session_config_entry("session.intra_op.allow_spinning") for each in settings] == ["0"]


def test_cuda_is_set_up_for_full_float32(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeOnnxRuntime(CUDA)
    fake.install(monkeypatch)
    with open_backend(network) as backend:
        assert backend.preferred_batch == backend.info.max_batch
    ((providers, _),) = fake.sessions
    (name, options), *others = providers
    assert (name, others) == (CUDA, [CPU])
    assert options["use_tf32"] == "0"
    assert fake.fallbacks_disabled == 1


def test_without_a_driver_cuda_is_not_asked_for(
    network: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeOnnxRuntime(CUDA)
    fake.install(monkeypatch)
    monkeypatch.setattr(onnx_providers, "has_cuda_driver", lambda: False)
    with open_backend(network) as backend:
        assert backend.device == f"ONNX Runtime {CPU}"
    assert [providers for providers, _ in fake.sessions] == [[CPU]]
    assert not caplog.records


@pytest.mark.parametrize(
    ("fake", "reason"),
    [
        (FakeOnnxRuntime(CUDA, silent=True, missing="Failed to load libcublasLt.so.13: no such file"), "libcublasLt"),
        (FakeOnnxRuntime(CUDA, silent=True), "does not say why"),
        (FakeOnnxRuntime(CUDA, broken="CUDA_PATH is set but no CUDA", falls_back=True), "CUDA_PATH"),
        (FakeOnnxRuntime(CUDA, broken="CUDA failure 100: no CUDA-capable device is detected"), "failure 100"),
    ],
)
def test_cuda_that_does_not_start_is_reported_once_and_the_cpu_computes(
    fake: FakeOnnxRuntime,
    reason: str,
    network: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake.install(monkeypatch)
    for _ in range(2):
        with open_backend(network) as backend:
            assert backend.device == f"ONNX Runtime {CPU}"
            assert np.array_equal(backend.run(BATCH)[0], nearest(BATCH[0], 4))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert reason in record.getMessage()
    assert "pip install" in record.getMessage()
    assert capsys.readouterr() == ("", "")  # an image may be on its way through standard output


@pytest.mark.parametrize("provider", [CUDA, OPENVINO])
def test_a_damaged_file_is_an_error_and_not_a_warning_about_the_provider(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    FakeOnnxRuntime(provider).install(monkeypatch)
    (tmp_path / "x.onnx").write_bytes(b"not a network")
    with pytest.raises(ArtefactError, match=r"x\.onnx"):
        open_backend(tmp_path / "x.onnx")
    assert not caplog.records


def test_openvino_computes_in_float32_and_takes_all_nodes_or_none(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeOnnxRuntime(OPENVINO)
    fake.install(monkeypatch)
    batches = np.random.default_rng(0).integers(0, 256, (7, 1, 5, 7, 3), np.uint8)
    with open_backend(network, threads=3) as backend:
        assert backend.device == f"ONNX Runtime {OPENVINO}"
        assert (backend.workers, backend.preferred_batch) == (3, 1)
        for batch, result in zip(batches, backend.stream(iter(batches)), strict=True):
            assert np.array_equal(result[0], nearest(batch[0], 4))
    one, many = fake.sessions
    for providers, entries in (one, many):
        ((name, options),) = providers
        properties = json.loads(options["load_config"])["CPU"]
        assert name == OPENVINO
        assert properties["INFERENCE_PRECISION_HINT"] == "f32"
        assert properties["ENABLE_CPU_PINNING"] == "NO"
        assert options["num_of_threads"] == "3"
        assert entries == {"session.disable_cpu_ep_fallback": "1"}
    assert [session[0][0][1]["num_streams"] for session in (one, many)] == ["1", "3"]


def test_a_graph_that_openvino_does_not_take_whole_is_computed_by_the_cpu_under_its_name(
    network: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    FakeOnnxRuntime(OPENVINO, broken="nodes that are assigned to the default CPU EP").install(monkeypatch)
    with open_backend(network, threads=2) as backend:
        assert backend.device == f"ONNX Runtime {CPU}"
        assert [np.array_equal(result[0], nearest(BATCH[0], 4)) for result in backend.stream([BATCH] * 5)] == [True] * 5
    assert "default CPU EP" in caplog.text


@pytest.mark.parametrize("provider", [CUDA, OPENVINO])
def test_what_is_asked_of_the_cpu_provider_is_computed_by_it(
    provider: str, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeOnnxRuntime(provider)
    fake.install(monkeypatch)
    with OnnxRuntimeBackend(network, cpu_only=True) as backend:
        assert backend.device == f"ONNX Runtime {CPU}"
    assert [providers for providers, _ in fake.sessions] == [[CPU]]


@pytest.mark.parametrize("provider", [CUDA, OPENVINO])
def test_memory_that_was_measured_for_the_cpu_provider_is_not_expected_of_another(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = write_nearest(tmp_path / "n.onnx")
    model = onnx.load(tmp_path / "n.onnx")
    known = json.loads(info.to_json()) | {"cpu_bytes_per_pixel": 1000}
    helper.set_model_props(model, {METADATA_KEY: json.dumps(known)})
    onnx.save(model, tmp_path / "n.onnx")
    with Upscaler.open(tmp_path / "n.onnx", max_memory=8 << 30) as upscaler:
        assert upscaler.fit(Images(64, 64)).peak is not None
    FakeOnnxRuntime(provider).install(monkeypatch)
    with Upscaler.open(tmp_path / "n.onnx") as upscaler:
        assert upscaler.fit(Images(64, 64)).peak is None
    with pytest.raises(UsageError, match="not known"):
        Upscaler.open(tmp_path / "n.onnx", max_memory=8 << 30)


@pytest.mark.parametrize("provider", [CUDA, OPENVINO])
def test_tiles_that_overflow_in_fp16_are_recomputed_by_the_cpu_provider(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network here breaks them in float32 too, which only the network that rescues can find out."""
    info = write_box(tmp_path / "box.onnx", value=float("nan"))
    model = onnx.load(tmp_path / "box.onnx")
    helper.set_model_props(model, {METADATA_KEY: info.to_json().replace('"fp32"', '"fp16"')})
    onnx.save(model, tmp_path / "box.onnx")
    fake = FakeOnnxRuntime(provider)
    fake.install(monkeypatch)
    with Upscaler.open(tmp_path / "box.onnx") as upscaler, pytest.raises(ArtefactError, match="in float32 too"):
        upscaler(BATCH[0])
    assert fake.sessions[-1][0] == [CPU]


@has_openvino
def test_the_real_openvino_equals_the_cpu_provider(tmp_path: Path) -> None:
    write_box(tmp_path / "box.onnx")
    batches = np.random.default_rng(0).uniform(0, 255, (9, 1, 33, 34, 3)).astype(np.float32)
    with open_backend(tmp_path / "box.onnx", threads=2) as backend:
        assert backend.device == f"ONNX Runtime {OPENVINO}"
        results = list(backend.stream(iter(batches)))
    with OnnxRuntimeBackend(tmp_path / "box.onnx", cpu_only=True) as cpu:
        # bfloat16, with its 8 bits, would be off by up to 1.
        assert all(np.abs(cpu.run(batch) - result).max() < 1e-3 for batch, result in zip(batches, results, strict=True))


@has_openvino
def test_the_real_openvino_is_not_named_for_a_graph_that_it_leaves_to_the_cpu(tmp_path: Path) -> None:
    info = write_nearest(tmp_path / "n.onnx")
    sizes = [helper.make_tensor_value_info("m", TensorProto.FLOAT, [1, 3, 3])]
    node = helper.make_node("Det", ["m"], ["d"])  # has no counterpart in OpenVINO
    graph = helper.make_graph([node], "g", sizes, [helper.make_tensor_value_info("d", TensorProto.FLOAT, [1])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    onnx.save(model, tmp_path / "det.onnx")
    assert onnx_providers.open_session(tmp_path / "det.onnx", None).get_providers()[0] == CPU
