import dataclasses
import hashlib
import importlib
import logging
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drc_deploy.engine_info import PlanOptions, PlanSidecar, sidecar_path
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.runtime.backends.contract import LayerRun
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.runtime.backends.trt.backend import TensorRTBackend
from drc_deploy.runtime.backends.trt.lanes import MAX_LANES
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.backends.trt import fake_tensorrt
from tests.runtime.backends.trt.fake_cuda import FakeCuda
from tests.runtime.backends.trt.fake_tensorrt import plan_bytes
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.tensorrt_api import VERSIONS


def write_plan(folder: Path, plan: bytes, **changes: Any) -> Path:
    """Write a plan with a sidecar, as export does."""
    path = folder / "x.plan"
    path.write_bytes(plan)
    fields: dict[str, Any] = {
        "engine": fake_info(receptive_field=1, max_batch=4),
        "builder": "tensorrt",
        "builder_version": "10.3.0",
        "gpu": "Fake GPU",
        "compute_capability": "8.7",
        "driver": "1",
        "onnx_file": "x.onnx",
        "onnx_sha256": "0" * 64,
        "plan_sha256": hashlib.sha256(plan).hexdigest(),
        "precision_requested": "fp16",
        "layers_by_precision": {},
        "precision_source": "engine",
        "verification": {},
    }
    sidecar_path(path).write_text(PlanSidecar(**{**fields, **changes}).to_json())
    return path


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    fake.install(monkeypatch)
    return fake


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", [(-1, 8, 8, 3), (-1, -1, -1, 3), (4, 8, 8, 3)])
def test_every_version_computes_the_same_with_only_the_attributes_it_has(
    version: str, shape: tuple[int, ...], cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = fake_tensorrt.install(version, cuda, monkeypatch)
    path = write_plan(tmp_path, plan_bytes(shape), builder=library.__name__)
    reference = FakeBackend(fake_info(receptive_field=1, tile=(8, 8), max_batch=4))
    with open_backend(path) as backend:
        assert (backend.info.tile, backend.info.max_batch) == ((8, 8), 4)
        for count in (1, 4, 2):
            batch = noise(count, 8, 8, 3)
            assert np.array_equal(backend.run(batch), reference.run(batch))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", [(-1, 8, 8, 3), (4, 8, 8, 3)])
def test_layers_are_timed_without_the_graphs_of_ordinary_calls(
    version: str, shape: tuple[int, ...], cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = fake_tensorrt.install(version, cuda, monkeypatch)
    batch = noise(2, 8, 8, 3)
    with open_backend(write_plan(tmp_path, plan_bytes(shape), builder=library.__name__)) as backend:
        before = backend.run(batch)
        runs = backend.time_layers(batch, 3)
        assert np.array_equal(backend.run(batch), before)
        assert cuda.turns["profiled"] == 3  # and none of the ordinary calls
    assert runs == [
        [LayerRun("body", "CaskConvolution", 1 / run), LayerRun("tail", "layer", 2 / run)] for run in (1, 2, 3)
    ]


def test_layers_of_a_plan_that_fails_are_an_error(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    with (
        open_backend(write_plan(tmp_path, plan_bytes(runs=False))) as backend,
        pytest.raises(ArtefactError, match="failed to run the engine"),
    ):
        backend.time_layers(noise(1, 8, 8, 3), 2)


def test_an_image_of_any_size_goes_through_fixed_tiles(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    image = noise(30, 21, 3)
    whole = Upscaler(FakeBackend(fake_info(receptive_field=1)))(image)
    with Upscaler.open(write_plan(tmp_path, plan_bytes())) as upscaler:
        assert np.array_equal(upscaler(image), whole)
        assert upscaler.device == "TensorRT Fake GPU"


def test_the_parts_of_a_call_are_timed(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    with TensorRTBackend(write_plan(tmp_path, plan_bytes())) as backend:
        assert backend.device_times is None
        backend.run(noise(1, 8, 8, 3))
        times = backend.device_times
    assert times is not None
    assert min(times.upload_ms, times.compute_ms, times.download_ms, times.enqueue_ms) > 0


def test_closing_frees_everything_and_leaves_no_context_current(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    with TensorRTBackend(write_plan(tmp_path, plan_bytes())) as backend:
        backend.run(noise(1, 8, 8, 3))
        assert (cuda.depth, cuda.retained, len(cuda.memory)) == (0, 1, 2 * MAX_LANES + 1)
    assert (cuda.depth, cuda.retained, len(cuda.memory)) == (0, 0, 0)


def test_a_plan_without_a_sidecar_runs_with_a_warning(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake_tensorrt.install("tensorrt-11.4.0", cuda, monkeypatch)
    (tmp_path / "bare.plan").write_bytes(plan_bytes(dtype="FLOAT"))
    with caplog.at_level(logging.WARNING), open_backend(tmp_path / "bare.plan") as backend:
        assert (backend.info.scale, backend.info.io_dtype, backend.info.tile) == (2, "float32", (8, 8))
        assert backend.info.global_operations
    assert "has no sidecar" in caplog.text


def test_a_plan_that_was_changed_after_its_export_is_refused(tmp_path: Path) -> None:
    path = write_plan(tmp_path, plan_bytes(), plan_sha256="1" * 64)
    with pytest.raises(ArtefactError, match="not the plan that its sidecar describes"):
        open_backend(path)


def test_an_empty_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.plan").touch()
    with pytest.raises(ArtefactError, match="is empty"):
        open_backend(tmp_path / "x.plan")


def test_a_plan_for_another_gpu_and_version_says_so_and_names_the_onnx(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    (tmp_path / "x.onnx").touch()
    path = write_plan(tmp_path, b"another", builder_version="11.4.0", compute_capability="9.0")
    with pytest.raises(ArtefactError) as caught:
        open_backend(path)
    for words in ("Magic tag does not match", "version 11.4.0, here is 10.3", "capability 9.0, here is 8.7"):
        assert words in caught.value.message
    assert f"--engine {tmp_path / 'x.onnx'}" in caught.value.hint
    assert cuda.depth == 0


@pytest.mark.parametrize("count", [0, 1, MAX_LANES, 3 * MAX_LANES + 1])
def test_a_stream_returns_every_batch_once_and_in_order(
    count: int, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    batches = [noise(1 + index % 4, 8, 8, 3) // (index + 1) for index in range(count)]
    reference = FakeBackend(fake_info(receptive_field=1, max_batch=4))
    with TensorRTBackend(write_plan(tmp_path, plan_bytes())) as backend:
        for batch, result in zip(batches, backend.stream(batches), strict=True):
            assert cuda.depth == 0, "the caller's context is another while it has the result"
            assert np.array_equal(result, reference.run(batch))


def test_the_copies_of_one_batch_do_not_wait_for_the_computation_of_another(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every lane has a stream of its own; what binds them is one event, before the computation and after the upload."""
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    with TensorRTBackend(write_plan(tmp_path, plan_bytes())) as backend:
        results = backend.stream(noise(1, 8, 8, 3) for _ in range(MAX_LANES))
        next(results)
        queues = [[getattr(work, "__name__", "") for work in stream.queue] for stream in cuda.streams.values()]
        upload_to_download = ["read", "copy", "let_happen", "read", "compute", "read", "copy", "read"]
        assert queues == [[], upload_to_download, upload_to_download]
        list(results)


def test_a_stream_that_is_given_up_leaves_nothing_on_its_way(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    batch = noise(1, 8, 8, 3)
    with TensorRTBackend(write_plan(tmp_path, plan_bytes())) as backend:
        results = backend.stream(np.zeros_like(batch) for _ in range(5))
        next(results)
        assert isinstance(results, Generator)
        results.close()
        assert not any(stream.queue for stream in cuda.streams.values())
        assert np.array_equal(backend.run(batch), FakeBackend(fake_info(receptive_field=1)).run(batch))


def test_where_rtx_never_runs_the_hint_is_to_use_tensorrt(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The words are those of TensorRT-RTX 1.7.1 on an H200 (docs/gpu/2026-11-26_tensorrt_rtx_pycuda.txt)."""
    words = "TensorRT-RTX does not support this compute capability, so the engine cannot be rebuilt for it."
    fake_tensorrt.install("tensorrt-rtx-1.7.1", cuda, monkeypatch)
    with pytest.raises(ArtefactError, match="does not support this compute capability") as caught:
        open_backend(write_plan(tmp_path, plan_bytes(refused=words), builder="tensorrt_rtx"))
    assert "drc-deploy[trt]" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (1, 3, 8, 8)}, "not NHWC RGB"),
        ({"dtype": "HALF"}, "not uint8 or float32"),
        ({"shape": (-1, 8, 8, 4), "profile": [[1, 8, 8, 4]] * 3}, "not NHWC RGB"),
        ({"dtype": "FLOAT"}, "takes float32 and gives float32, not uint8"),
        ({"output_dtype": "FLOAT"}, "takes uint8 and gives float32, not uint8"),
        ({"names": ["lr", "image"]}, "takes lr and gives image, not lr and sr"),
        ({"names": ["input", "output"]}, "takes input, not lr"),
        ({"more": {"noise": ["FLOAT", [4]]}}, "takes lr, noise and gives sr, not lr and sr"),
        ({"shape_input": "lr"}, "takes lr as a shape"),
        ({"scale": 3}, "makes .4, 24, 24, 3. of .4, 8, 8, 3., which is not 2 times"),
        ({"scale": -2}, "size of sr is not known"),
    ],
)
def test_a_plan_of_another_program_is_refused(
    changes: dict[str, Any], message: str, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    with pytest.raises(ArtefactError, match=message) as caught:
        open_backend(write_plan(tmp_path, plan_bytes(**changes)))
    assert "drc-deploy export" in caught.value.hint
    assert (cuda.depth, cuda.retained, cuda.allocated) == (0, 0, 0)


def test_a_plan_of_a_size_that_its_network_does_not_take_is_refused(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    engine = dataclasses.replace(fake_info(receptive_field=1, max_batch=4), multiple_of=16)
    with pytest.raises(ArtefactError, match=r"tiles of 8x8, but both sides of the tile must be multiples of 16\."):
        open_backend(write_plan(tmp_path, plan_bytes(), engine=engine))


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        (
            {"refused": "[defaultAllocator.cpp] Cuda error 2 (out of memory)"},
            "cannot load the plan: .*memory",
            "process",
        ),
        ({"refused": "[memory.cpp] OutOfMemory Requested size 1"}, "OutOfMemory", "Another process may hold"),
        ({"no_context": True}, "cannot make an execution context", "Another process may hold"),
        (
            {"refused": "Version tag does not match. Current Version: 1"},
            "Version tag",
            "Export the plan on this machine",
        ),
    ],
)
def test_a_refusal_of_the_library_is_reported_with_a_hint(
    changes: dict[str, Any], message: str, hint: str, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    with pytest.raises(ArtefactError, match=message) as caught:
        open_backend(write_plan(tmp_path, plan_bytes(**changes)))
    assert hint in caught.value.hint
    assert (cuda.depth, cuda.retained, cuda.allocated) == (0, 0, 0)


def test_a_driver_that_is_too_old_for_tensorrt_is_named(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cuda.old_driver = True
    fake_tensorrt.install("tensorrt-11.4.0", cuda, monkeypatch)
    with pytest.raises(ArtefactError, match="driver may be too old for it: CUDA initialization failure") as caught:
        open_backend(write_plan(tmp_path, plan_bytes()))
    assert "newer NVIDIA driver" in caught.value.hint


def test_a_call_that_the_library_refuses_is_an_error(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    with (
        TensorRTBackend(write_plan(tmp_path, plan_bytes(runs=False))) as backend,
        pytest.raises(ArtefactError, match="failed to run the engine"),
    ):
        backend.run(noise(1, 8, 8, 3))


@pytest.mark.parametrize(
    ("fake", "message"),
    [
        (FakeCuda(broken="cuInit failed: no CUDA-capable device"), "driver does not work"),
        (FakeCuda(devices=0), "no NVIDIA GPU"),
    ],
)
def test_without_a_working_gpu_the_library_is_not_even_imported(
    fake: FakeCuda, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    (tmp_path / "x.onnx").touch()
    with pytest.raises(MissingDependencyError, match=message) as caught:
        open_backend(write_plan(tmp_path, plan_bytes()))
    assert f"--engine {tmp_path / 'x.onnx'}" in caught.value.hint


def test_without_pycuda_the_hint_names_the_onnx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(MissingDependencyError, match="pycuda cannot be used") as caught:
        open_backend(write_plan(tmp_path, plan_bytes()))
    assert "x.onnx" in caught.value.hint


def test_without_the_library_that_built_it_the_plan_is_refused(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependencyError, match="tensorrt_rtx"):
        open_backend(write_plan(tmp_path, plan_bytes(), builder="tensorrt_rtx"))
    assert cuda.depth == 0


def test_the_installed_library_has_what_the_listings_do_not_cover() -> None:
    pytest.importorskip("tensorrt_rtx")
    library = importlib.import_module("tensorrt_rtx")
    assert library.TensorIOMode.INPUT != library.TensorIOMode.OUTPUT
    assert library.ILogger.INTERNAL_ERROR != library.ILogger.ERROR
    assert isinstance(library.__version__, str)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_may_run_its_own_code_only_where_its_sidecar_says_so(
    version: str, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    builder = fake_tensorrt.install(version, cuda, monkeypatch).__name__
    plan = plan_bytes(brings_code=True)
    told = write_plan(tmp_path, plan, builder=builder, options=PlanOptions(version_compatible=True))
    with open_backend(told) as backend:
        assert np.array_equal(
            backend.run(noise(1, 8, 8, 3)), FakeBackend(fake_info(receptive_field=1)).run(noise(1, 8, 8, 3))
        )
    with pytest.raises(ArtefactError, match="host code, which is not allowed"):
        open_backend(write_plan(tmp_path, plan, builder=builder))


def test_a_changed_plan_never_runs_its_own_code(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    path = write_plan(tmp_path, plan_bytes(), options=PlanOptions(version_compatible=True))
    path.write_bytes(plan_bytes(brings_code=True))
    with pytest.raises(ArtefactError, match="is not the plan that its sidecar describes"):
        open_backend(path)
    sidecar_path(path).unlink()
    with pytest.raises(ArtefactError, match="host code, which is not allowed") as caught:
        open_backend(path)
    assert "sidecar" in caught.value.hint


def test_a_plan_for_a_dla_core_runs_there_in_whole_batches(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    plan = plan_bytes(dla_core=1, profile=[[4, 8, 8, 3]] * 3)
    batch = noise(2, 8, 8, 3)
    with open_backend(write_plan(tmp_path, plan, options=PlanOptions(dla_core=1))) as backend:
        assert np.array_equal(backend.run(batch), FakeBackend(fake_info(receptive_field=1, max_batch=2)).run(batch))
    with pytest.raises(ArtefactError, match="another DLA core"):
        open_backend(write_plan(tmp_path, plan))


@pytest.mark.parametrize(
    ("options", "built_on", "here", "words"),
    [
        ({}, "8.6", "8.6", "It was built for version 10.7.0, here is 10.3.0."),
        ({}, "8.6", "8.9", "version 10.7.0, here is 10.3.0 and a GPU of compute capability 8.6, here is 8.9."),
        ({"version_compatible": True}, "8.6", "8.6", "It was built for version 10.7.0 and later, here is 10.3.0."),
        ({"hardware_compatible": True}, "8.6", "12.0", "It was built for version 10.7.0, here is 10.3.0."),
        ({"hardware_compatible": True}, "8.6", "7.5", "and GPUs from compute capability 8.0 on, here is 7.5."),
    ],
)
def test_a_refusal_names_only_differences_that_matter_to_the_plan(
    options: dict[str, bool], built_on: str, here: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    major, minor = here.split(".")
    cuda = FakeCuda(capability=(int(major), int(minor)))
    cuda.install(monkeypatch)
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    fields: dict[str, Any] = {
        "builder_version": "10.7.0",
        "compute_capability": built_on,
        "options": PlanOptions(**options),
    }
    with pytest.raises(ArtefactError) as caught:
        open_backend(write_plan(tmp_path, plan_bytes(refused="no"), **fields))
    assert caught.value.message.endswith(words)
