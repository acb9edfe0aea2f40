import math
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from drc_deploy.bench.machine.memory import Reading, read_shared, split_memory, used_bytes
from drc_deploy.bench.measure.fidelity import DifferenceSum, measure_seam
from drc_deploy.bench.run.torch_reference import TorchReferences
from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.files import sha256_of
from drc_deploy.locate import SHIPPED
from drc_deploy.runtime.backends.contract import GpuMemory
from tests.runtime.fake_backend import FakeBackend, fake_info

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)


def test_a_difference_is_that_of_the_closed_form() -> None:
    found = DifferenceSum()
    found.add(np.full((4, 5, 3), 100, np.uint8), np.full((4, 5, 3), 101, np.uint8))
    found.add(np.full((2, 10, 3), 7, np.uint8), np.full((2, 10, 3), 7, np.uint8))
    total = found.total()
    assert total.psnr_db == pytest.approx(20 * math.log10(255) + 10 * math.log10(2))
    assert (total.max_levels, total.differing_share, found.images) == (1, 0.5, 2)


def test_equal_images_differ_by_nothing() -> None:
    found = DifferenceSum()
    found.add(IMAGE, IMAGE.copy())
    assert found.total().psnr_db is None
    assert found.total().differing_share == 0.0


def test_a_local_network_has_no_seams_and_one_that_looks_further_has() -> None:
    exact = measure_seam(FakeBackend(fake_info(receptive_field=1)), IMAGE)
    assert exact.tiles > 1
    assert exact.difference is not None
    assert exact.difference.max_levels == 0
    seen_too_little = measure_seam(FakeBackend(fake_info(receptive_field=6, global_operations=True)), IMAGE)
    assert seen_too_little.difference is not None
    assert seen_too_little.difference.max_levels > 0


def test_an_engine_of_fixed_tiles_shows_no_seam_and_why() -> None:
    found = measure_seam(FakeBackend(fake_info(tile=(8, 12))), IMAGE)
    assert found.difference is None
    assert "tiles of 12x8 only" in found.note


def test_the_reference_is_what_the_checkpoint_computes_in_float32(tmp_path: Path) -> None:
    import torch

    path = SHIPPED / "drn_xs_r30.safetensors"
    network = load_checkpoint(path).build_network()
    with torch.inference_mode():
        planes = network.upscale(torch.from_numpy(IMAGE.astype(np.float32)).permute(2, 0, 1)[None])
    expected = np.clip(np.floor(planes[0].permute(1, 2, 0).numpy() + 0.5), 0, 255)
    with closing(TorchReferences(tmp_path, None)) as references:
        found = references.image(sha256_of(path), "an image", IMAGE)
        note = references.notes[sha256_of(path)]
    assert found is not None
    assert np.abs(found - expected).max() <= 1
    assert np.mean(found != expected) < 1e-3
    assert note == "drn_xs_r30.safetensors with torch in float32 on the CPU"


@pytest.mark.parametrize(("sha256", "word"), [("ab" * 32, "abababab"), ("", "a checkpoint that the engine names")])
def test_an_engine_whose_checkpoint_is_gone_is_named_as_such(tmp_path: Path, sha256: str, word: str) -> None:
    with closing(TorchReferences(tmp_path, None)) as references:
        assert references.image(sha256, "an image", IMAGE) is None
        note = references.notes[sha256]
    assert note.startswith("unavailable: ")
    assert word in note


def test_a_damaged_checkpoint_does_not_end_the_run(tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(b"no tensors")
    with closing(TorchReferences(tmp_path, None)) as references:
        assert references.image(sha256_of(path), "an image", IMAGE) is None
        assert references.notes[sha256_of(path)].startswith("unavailable: ")


def test_the_parts_of_device_memory_add_up_to_its_peak() -> None:
    unknown = Reading(None, "unavailable: nobody tells")
    plan = GpuMemory(lanes=3, batch=4, engine=100, scratch=20, io=30)
    found = split_memory(plan, Reading(400, "measured"), unknown)
    assert (found.engine, found.scratch, found.io, found.library) == (100, 20, 30, 250)
    assert split_memory(plan, unknown, unknown).library is None
    assert split_memory(None, unknown, unknown).note.startswith("unavailable")


def test_memory_of_host_and_gpu_is_one_on_a_jetson_only(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8000 kB\nMemFree: 100 kB\nMemAvailable: 5000 kB\n")
    assert used_bytes(tmp_path) == 3000 * 1024
    assert used_bytes(tmp_path / "none") is None
    assert read_shared(700, "NVIDIA Jetson Orin Nano", "TensorRT Orin").value == 700
    assert read_shared(700, None, "TensorRT NVIDIA T4").value is None
    assert read_shared(700, "NVIDIA Jetson Orin Nano", "ONNX Runtime CPUExecutionProvider").value is None
    assert read_shared(None, "NVIDIA Jetson Orin Nano", "TensorRT Orin").value is None
