"""Bound memory computes the same as ``session.run``: here on the CPU, and on a GPU where there is one."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from drc_deploy.engine_info import EXACT_SUFFIX, INPUT_NAME, OUTPUT_NAME
from drc_deploy.errors import ArtefactError
from drc_deploy.export.graph.exact_graph import make_exact
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.runtime.backends.ort.backend import OnnxRuntimeBackend
from drc_deploy.runtime.backends.ort.bound_runs import BoundRuns
from drc_deploy.runtime.backends.trt.gpu_memory import has_cuda_driver
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.backends.ort.fake_onnxruntime import CUDA, FakeOnnxRuntime
from tests.runtime.networks import nearest, write_box, write_nearest
from tests.runtime.tiling.test_exact import attention_model, info

RNG = np.random.default_rng(5)
SHAPES = [(1, 8, 9, 3), (1, 8, 9, 3), (1, 9, 8, 3), (2, 8, 9, 3), (1, 8, 9, 3)]


def session_of(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_bound_runs_equal_plain_ones_for_one_shape_after_the_other(tmp_path: Path) -> None:
    write_box(tmp_path / "box.onnx")
    session = session_of(tmp_path / "box.onnx")
    bound = BoundRuns(session, "cpu")
    batches = [RNG.uniform(0, 255, shape).astype(np.float32) for shape in SHAPES]
    batches.append(batches[0][:, ::-1, ::-1])  # not contiguous
    results = [bound.run([OUTPUT_NAME], {INPUT_NAME: batch}) for batch in batches]
    # Compared when all are there: none may have been overwritten by a later one.
    for batch, (result,) in zip(batches, results, strict=True):
        assert np.array_equal(result, session.run([OUTPUT_NAME], {INPUT_NAME: batch})[0])


def test_other_inputs_than_the_tile_are_read_in_every_run(tmp_path: Path) -> None:
    onnx.save(make_exact(attention_model(info(), 3)), tmp_path / "net.onnx")
    session = session_of(tmp_path / "net.onnx")
    bound = BoundRuns(session, "cpu")
    for given in (True, False, True):
        for outputs in (["sr"], ["seen"], ["seen", "sr"]):
            feeds: dict[str, Pixels] = {
                INPUT_NAME: RNG.uniform(0, 255, (1, 8, 9, 3)).astype(np.float32),
                "kept": np.array([1, 2, 7, 9], np.int64),
                "means": RNG.uniform(0, 255, 9).astype(np.float32),
                "given": np.array([given]),
            }
            for result, expected in zip(bound.run(outputs, feeds), session.run(outputs, feeds), strict=True):
                assert np.array_equal(result, expected)


def test_many_threads_share_bound_runs(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    bound = BoundRuns(session_of(tmp_path / "n.onnx"), "cpu")
    batches = [RNG.integers(0, 256, SHAPES[index % len(SHAPES)], np.uint8) for index in range(60)]
    with ThreadPoolExecutor(6) as pool:
        results = pool.map(lambda batch: bound.run([OUTPUT_NAME], {INPUT_NAME: batch})[0], batches)
        for batch, result in zip(batches, results, strict=True):
            assert np.array_equal(result, [nearest(tile, 4) for tile in batch])


def test_a_run_that_fails_leaves_the_next_one_as_it_should_be(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    bound = BoundRuns(session_of(tmp_path / "n.onnx"), "cpu")
    good = RNG.integers(0, 256, (1, 4, 4, 3), np.uint8)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            bound.run([OUTPUT_NAME], {INPUT_NAME: np.zeros((1, 4, 4, 2), np.uint8)})
        assert np.array_equal(bound.run([OUTPUT_NAME], {INPUT_NAME: good})[0][0], nearest(good[0], 4))


def test_on_cuda_nothing_is_allocated_for_each_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nearest(tmp_path / "n.onnx")
    fake = FakeOnnxRuntime(CUDA)
    fake.install(monkeypatch)
    batches = RNG.integers(0, 256, (30, 1, 5, 7, 3), np.uint8)
    with open_backend(tmp_path / "n.onnx") as backend:
        assert backend.device == "ONNX Runtime CUDAExecutionProvider"
        for batch, result in zip(batches, backend.stream(iter(batches)), strict=True):
            assert np.array_equal(result[0], nearest(batch[0], 4))
    assert fake.runs == len(batches)
    assert len(fake.allocated) <= 2 * backend.workers  # a tile and a result for each call under way
    assert set(fake.allocated) == {(1, 5, 7, 3), (1, 20, 28, 3)}
    assert len(fake.sessions) == 1  # none of one core each


def test_on_cuda_a_tile_is_uploaded_while_another_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nearest(tmp_path / "n.onnx")
    fake = FakeOnnxRuntime(CUDA)
    fake.install(monkeypatch)
    count, overlapped = 9, []

    def wait_for_another_upload() -> None:
        if fake.runs < count - 3:  # the last ones have none behind them
            with fake.changed:
                overlapped.append(fake.changed.wait_for(lambda: fake.uploads >= fake.runs + 2, timeout=20))

    fake.during_run = wait_for_another_upload
    batches = RNG.integers(0, 256, (count, 1, 5, 7, 3), np.uint8)
    with open_backend(tmp_path / "n.onnx") as backend:
        results = list(backend.stream(iter(batches)))
    assert all(np.array_equal(result[0], nearest(batch[0], 4)) for batch, result in zip(batches, results, strict=True))
    # Rarely the system starts the thread of an early tile last of all; without overlap there would be none at all.
    assert overlapped.count(True) > len(overlapped) / 2
    assert fake.most_runs_at_a_time == 1  # a network has its scratch memory once


def test_a_whole_image_and_exact_tiles_go_through_bound_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(attention_model(info()), path)
    onnx.save(make_exact(attention_model(info())), tmp_path / f"net{EXACT_SUFFIX}")
    images = [RNG.integers(0, 256, (*size, 3), np.uint8) for size in ((40, 33), (21, 50), (40, 33))]
    with Upscaler.open(path, tile=16, overlap=2, exact=True) as upscaler:
        expected = [upscaler(image) for image in images]
    fake = FakeOnnxRuntime(CUDA)
    fake.install(monkeypatch)
    with Upscaler.open(path, tile=16, overlap=2, exact=True) as upscaler:
        assert "CUDA" in upscaler.device
        for image, result in zip(images, expected, strict=True):
            assert np.array_equal(upscaler(image), result)
    assert fake.runs > 0


def test_an_error_while_bound_is_reported_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nearest(tmp_path / "n.onnx")
    fake = FakeOnnxRuntime(CUDA)
    fake.install(monkeypatch)

    def fail() -> None:
        raise RuntimeError("CUDA failure 2: out of memory")

    fake.during_run = fail
    with open_backend(tmp_path / "n.onnx") as backend, pytest.raises(ArtefactError, match="out of memory") as caught:
        backend.run(np.zeros((1, 5, 7, 3), np.uint8))
    assert "--tile" in caught.value.hint


@pytest.mark.gpu
def test_on_a_real_gpu_bound_runs_equal_plain_ones_and_the_cpu(tmp_path: Path) -> None:
    if CUDA not in onnxruntime.get_available_providers() or not has_cuda_driver():
        pytest.skip("no onnxruntime-gpu, or no NVIDIA driver")
    write_box(tmp_path / "box.onnx")
    batches = [RNG.uniform(0, 255, (1, 64, 65, 3)).astype(np.float32) for _ in range(50)]
    with OnnxRuntimeBackend(tmp_path / "box.onnx") as gpu:
        assert "CUDA" in gpu.device
        session = gpu._sessions.session
        plain = [session.run([OUTPUT_NAME], {INPUT_NAME: batch})[0] for batch in batches]
        streamed = list(gpu.stream(iter(batches)))
        single = [gpu.run(batch) for batch in batches]
    with OnnxRuntimeBackend(tmp_path / "box.onnx", cpu_only=True) as cpu:
        expected = [cpu.run(batch) for batch in batches]
    for results in (streamed, single):
        assert all(np.array_equal(result, other) for result, other in zip(results, plain, strict=True))
        # TF32, with its 11 bits, would be off by up to 0.1.
        assert all(np.abs(result - other).max() < 1e-3 for result, other in zip(results, expected, strict=True))
