"""A plan that TensorRT builds and runs here: only a real GPU shows whether the fakes are right."""

from pathlib import Path

import numpy as np
import pytest

from drc_deploy.export.export_checkpoint import ExportResult, export_checkpoint
from drc_deploy.export.request import ExportRequest, parse_tile
from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import SHIPPED, sample_images
from drc_deploy.runtime.backends.trt.backend import TensorRTBackend
from drc_deploy.runtime.backends.trt.gpu_memory import CudaDevice
from drc_deploy.runtime.backends.trt.lanes import RESERVE_BYTES
from drc_deploy.runtime.backends.trt.runner import PlanRunner
from drc_deploy.runtime.upscaler import Upscaler

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    for package in ("tensorrt", "pycuda.driver"):
        pytest.importorskip(package, exc_type=ImportError)
    folder = tmp_path_factory.mktemp("plan")
    checkpoint = SHIPPED / "drn_xs.safetensors"
    return export_checkpoint(
        ExportRequest(checkpoint, folder, "net", "fp32", parse_tile("64"), 4, "tensorrt", exact=True)
    )


def open_plan(exported: ExportResult) -> TensorRTBackend:
    assert exported.plan is not None
    return TensorRTBackend(exported.plan)


def tiles(count: int) -> np.ndarray:
    image = read_rgb(sample_images()[0])
    return np.stack([image[16 * index : 16 * index + 64, :64] for index in range(count)])


def test_replays_give_what_ordinary_calls_gave(exported: ExportResult) -> None:
    pytest.importorskip("cuda.bindings.driver")
    with open_plan(exported) as backend:
        first = {count: backend.run(tiles(count)) for count in (4, 1, 3)}
        for count in (4, 4, 1, 3, 4, 1, 3) * 3:
            assert np.array_equal(backend.run(tiles(count)), first[count])
        calls = backend._plan._calls.values()
        assert all(call._graph is not None for call in calls)


def test_layers_take_about_as_long_as_the_call(exported: ExportResult) -> None:
    with open_plan(exported) as backend:
        before = backend.run(tiles(4))
        for _ in range(20):
            backend.run(tiles(4))
        runs = backend.time_layers(tiles(4), 6)
        assert np.array_equal(backend.run(tiles(4)), before)
        assert backend.device_times is not None
        compute_ms = backend.device_times.compute_ms
    assert len({tuple(layer.name for layer in run) for run in runs}) == 1
    assert {layer.operation for layer in runs[0]} != {"layer"}
    # Each layer is slowed down by its events; copies of a graph run without gaps.
    assert 0.5 * compute_ms < min(sum(layer.ms for layer in run) for run in runs) < 5 * compute_ms


def test_tiles_of_the_exact_plan_are_within_a_grey_level_of_the_whole_image(exported: ExportResult) -> None:
    image = read_rgb(sample_images()[0])[100:250, 60:200]
    with Upscaler.open(exported.onnx, tile=256) as whole:
        expected = whole(image)
    with Upscaler.open(exported.plan or Path(), exact=True) as exact:
        assert "TensorRT" in exact.device
        assert np.abs(exact(image).astype(int) - expected).max() <= 1


def test_a_plan_takes_the_predicted_memory_and_frees_it(exported: ExportResult) -> None:
    assert exported.plan is not None
    gpu = CudaDevice()  # held, so that the context itself does not come and go
    with gpu.current():
        before = gpu.free_bytes()
        runner = PlanRunner(exported.plan)
        taken = before - gpu.free_bytes()
        runner.close()
        assert runner.memory.scratch + runner.memory.io <= taken <= runner.memory.total + RESERVE_BYTES
        assert before - gpu.free_bytes() < RESERVE_BYTES
    gpu.close()
