from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drc_deploy.engine_info import Precision
from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.runtime.tiling.memory_plan import Images
from drc_deploy.runtime.upscaler import Upscaler

torch = pytest.importorskip("torch")

from drc_deploy.bench.programs.program_backend import ProgramRequest  # noqa: E402
from drc_deploy.bench.programs.torch_program import EAGER, TorchProgram  # noqa: E402
from drc_deploy.checkpoint import Checkpoint, save_checkpoint  # noqa: E402 (they need torch)
from drc_deploy.images.reading import read_rgb  # noqa: E402
from drc_deploy.locate import SHIPPED, sample_images  # noqa: E402
from drc_deploy.models.drn import DRN  # noqa: E402
from drc_deploy.models.network import ModelSpec  # noqa: E402
from drc_deploy.models.registry import build_network  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "drn_xs.safetensors"
    save_checkpoint(path, Checkpoint.of(build_network(ModelSpec("drn_xs", 4))))
    return path


def test_a_checkpoint_runs_as_the_network_that_it_holds(checkpoint: Path) -> None:
    from drc_deploy.checkpoint import load_checkpoint

    network = load_checkpoint(checkpoint).build_network()
    batch = np.random.default_rng(0).uniform(0, 255, (1, 9, 12, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = network.upscale(torch.from_numpy(batch).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    with open_backend(checkpoint) as backend:
        assert np.allclose(backend.run(batch), expected, atol=0.01)
        assert (backend.info.model, backend.info.scale, backend.info.io_dtype) == ("drn_xs", 4, "float32")
        assert backend.device.startswith("torch ")
        assert backend.device.endswith(" fp32")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_checkpoint_takes_8_and_16_bits_itself(checkpoint: Path, dtype: type[np.generic]) -> None:
    with Upscaler.open(checkpoint) as upscaler:
        result = upscaler(np.full((5, 4), 77, dtype))
    assert result.shape == (20, 16)
    assert result.dtype == dtype


def test_a_network_with_windows_gets_sides_that_it_takes(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upscale, seen = DRN.upscale, set()

    def watched(network: DRN, lr: Any) -> Any:
        seen.update(lr.shape[2:])
        return upscale(network, lr)

    monkeypatch.setattr(DRN, "multiple_of", 24)
    monkeypatch.setattr(DRN, "minimum", 30)
    monkeypatch.setattr(DRN, "upscale", watched)
    with Upscaler.open(checkpoint, tile=100) as upscaler:
        assert (upscaler.info.multiple_of, upscaler.info.minimum) == (24, 30)
        assert upscaler(np.full((5, 110), 77, np.uint8)).shape == (20, 440)
        with pytest.raises(ValueError, match="multiples of 24, at least 48"):
            upscaler.backend.run(np.zeros((1, 48, 24, 3), np.float32))
    assert seen == {48, 72}
    program = TorchProgram(ProgramRequest(checkpoint, EAGER, None, (96, 96)))
    assert (program.info.multiple_of, program.info.minimum) == (24, 30)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArtefactError):
        open_backend(tmp_path / "x.safetensors")


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_stream_returns_the_results_of_run_in_order(checkpoint: Path, threads: int, count: int) -> None:
    batches = [np.full((1, 6, 7, 3), 20 * index, np.float32) for index in range(count)]
    with open_backend(checkpoint, threads=threads) as backend:
        assert backend.workers == threads
        results = list(backend.stream(iter(batches)))
        assert len(results) == count
        for batch, result in zip(batches, results, strict=True):
            assert np.allclose(result, backend.run(batch), atol=0.01)
        assert torch.get_num_threads() == threads  # as before the workers, which have one each


@pytest.mark.parametrize(("precision", "most"), [("fp16", 0.5), ("bf16", 4)])
def test_half_precision_is_near_float32_and_named(precision: Precision, most: float) -> None:
    batch = read_rgb(sample_images()[0])[None, 100:124, 100:130].astype(np.float32)
    path = SHIPPED / "drn_xs.safetensors"
    with open_backend(path) as exact, open_backend(path, precision=precision) as half:
        assert half.info.precision == precision
        assert half.device.endswith(f" {precision}")
        assert 0 < np.abs(half.run(batch) - exact.run(batch)).max() < most


def test_tiles_that_overflow_in_fp16_are_recomputed_in_fp32(checkpoint: Path, tmp_path: Path) -> None:
    """Features that grow by 3e4 before a ReLU and shrink by as much behind it are the same in float32 only."""
    from drc_deploy.checkpoint import load_checkpoint

    network = load_checkpoint(SHIPPED / "drn_xs.safetensors").build_network()
    with torch.no_grad():
        for name, factor in (("body.0.weight", 3e4), ("body.0.bias", 3e4), ("body.2.weight", 1 / 3e4)):
            network.get_parameter(f"up_blocks.0.0.{name}").mul_(factor)
    save_checkpoint(tmp_path / "huge.safetensors", Checkpoint.of(network))
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 250
    with Upscaler.open(tmp_path / "huge.safetensors") as exact:
        expected = exact(image)
    with Upscaler.open(tmp_path / "huge.safetensors", precision="fp16") as half:
        result = half(image)
        assert half.networks.rescue.count == 1
    assert np.array_equal(result, expected)


def test_an_exported_file_keeps_its_precision(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"x")
    with pytest.raises(UsageError, match="exported with"):
        open_backend(tmp_path / "x.onnx", precision="fp16")


@pytest.mark.parametrize("exact", [False, True])
def test_a_checkpoint_does_not_run_in_int8(checkpoint: Path, exact: bool) -> None:
    with pytest.raises(UsageError, match="not in int8") as caught:
        Upscaler.open(checkpoint, precision="int8", exact=exact)
    assert "drc-deploy export CHECKPOINT --precision int8" in caught.value.hint


def test_a_large_image_is_planned_within_the_memory_that_is_allowed(checkpoint: Path) -> None:
    with Upscaler.open(checkpoint, max_memory=resident() + (200 << 20)) as upscaler:
        fitted = upscaler.fit(Images(3000, 4000))
        assert fitted.peak is not None
        assert max(fitted.plan.tile) < 256
    with Upscaler.open(checkpoint) as upscaler:
        assert upscaler.fit(Images(3000, 4000)).peak is not None


def resident() -> int:
    from drc_deploy.runtime.memory.host import resident_bytes

    return resident_bytes() or pytest.skip("/proc does not tell")
