"""A call is recorded once, after an ordinary one, and replayed; what cannot be recorded runs as it is."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.trt.backend import TensorRTBackend
from drc_deploy.runtime.backends.trt.lanes import MAX_LANES
from tests.runtime.backends.trt import fake_tensorrt
from tests.runtime.backends.trt.fake_cuda import FakeCuda
from tests.runtime.backends.trt.fake_tensorrt import plan_bytes
from tests.runtime.backends.trt.test_backend import noise, write_plan
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.tensorrt_api import VERSIONS

REFERENCE = FakeBackend(fake_info(receptive_field=1, max_batch=4))
Open = Callable[..., TensorRTBackend]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    fake.install(monkeypatch)
    return fake


@pytest.fixture
def open_plan(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    def open_version(version: str = "tensorrt-10.3.0", **changes: Any) -> TensorRTBackend:
        library = fake_tensorrt.install(version, cuda, monkeypatch)
        return TensorRTBackend(write_plan(tmp_path, plan_bytes(**changes), builder=library.__name__))

    return open_version


def check_results(backend: TensorRTBackend, counts: list[int]) -> None:
    batches = [noise(count, 8, 8, 3) // (index + 1) for index, count in enumerate(counts)]
    for batch, result in zip(batches, backend.stream(batches), strict=True):
        assert np.array_equal(result, REFERENCE.run(batch))


@pytest.mark.parametrize("version", [version for version in VERSIONS if "rtx" not in version])
@pytest.mark.parametrize("package", ["cuda.bindings.driver", "cuda.cuda"])
def test_every_call_but_the_first_of_a_lane_and_size_is_a_replay(
    version: str, package: str, cuda: FakeCuda, open_plan: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda.install_graphs(monkeypatch, package)
    with open_plan(version) as backend:
        check_results(backend, [4] * 4 * MAX_LANES)
        assert cuda.launches == 3 * MAX_LANES
        check_results(backend, [4, 4, 4, 4, 1])  # the lanes go round: another size in one of them spoils no graph
        check_results(backend, [4, 4, 4, 4, 1])
        assert cuda.launches == 3 * MAX_LANES + 4 + 5
        assert len(cuda.graphs) == MAX_LANES + 1
        assert not cuda.unused_graphs
    assert not cuda.graphs
    assert not cuda.memory
    assert cuda.retained == 0


def test_without_cuda_python_calls_are_ordinary(
    cuda: FakeCuda, open_plan: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("cuda.bindings.driver", "cuda.cuda"):
        monkeypatch.setitem(sys.modules, name, None)
    with caplog.at_level(logging.WARNING), open_plan() as backend:
        check_results(backend, [4] * 9)
    assert cuda.launches == 0
    assert not caplog.records


def test_tensorrt_rtx_records_by_itself(cuda: FakeCuda, open_plan: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake sees to it that its contexts are made with that setting."""
    cuda.install_graphs(monkeypatch)
    with open_plan("tensorrt-rtx-1.7.1") as backend:
        check_results(backend, [4] * 9)
    assert cuda.launches == 0


UNSUPPORTED = "the driver says CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        ("begin", UNSUPPORTED),
        ("end", UNSUPPORTED),
        ("instantiate", UNSUPPORTED),
        ("lacks", 'Function "cuStreamBeginCapture" not found'),
    ],
)
def test_a_call_that_cannot_be_recorded_runs_without_a_graph_with_one_warning(
    refused: str,
    reason: str,
    cuda: FakeCuda,
    open_plan: Open,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cuda.install_graphs(monkeypatch)
    cuda.refuses = refused
    with caplog.at_level(logging.WARNING), open_plan() as backend:
        check_results(backend, [4] * 9)
        assert all(stream.captured is None for stream in cuda.streams.values())
        assert not cuda.unused_graphs
    assert cuda.launches == 0
    assert [record.getMessage() for record in caplog.records] == [f"x.plan runs without CUDA graphs: {reason}."]


def test_a_library_that_refuses_while_it_is_recorded_leaves_the_stream_usable(
    cuda: FakeCuda, open_plan: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cuda.install_graphs(monkeypatch)
    with caplog.at_level(logging.WARNING), open_plan(fails_recorded=True) as backend:
        check_results(backend, [4] * 9)
        assert not cuda.unused_graphs
    assert cuda.launches == 0
    assert "failed to run the engine" in caplog.text


def test_a_replay_that_fails_is_an_error(cuda: FakeCuda, open_plan: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.install_graphs(monkeypatch)
    with open_plan() as backend:
        check_results(backend, [4, 4, 4, 4])
        cuda.refuses = "launch"
        with pytest.raises(ArtefactError, match="failed on TensorRT Fake GPU: the driver says"):
            backend.run(noise(4, 8, 8, 3))
        cuda.refuses = ""
        check_results(backend, [4])


def test_the_functions_that_record_are_those_of_cuda_bindings() -> None:
    api = pytest.importorskip("cuda.bindings.driver")
    for name in ("cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch"):
        assert callable(getattr(api, name))
    assert callable(api.cuGraphDestroy)
    assert callable(api.cuGraphExecDestroy)
    assert api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    assert api.CUresult.CUDA_SUCCESS.name == "CUDA_SUCCESS"
