import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.images.output_size import OutputSize
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.reading import read_image
from drc_deploy.images.strip_resizer import resize
from drc_deploy.images.writing import write_image
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import Outcome, RunOptions, run_jobs
from drc_deploy.runtime.memory.host import MemoryBudget
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.networks import nearest


def noise(*shape: int) -> NDArray[Any]:
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


def run(
    folder: Path, image: NDArray[Any], backend: FakeBackend | None = None, suffix: str = ".png", **options: Any
) -> tuple[Outcome, NDArray[Any]]:
    """Upscale an image to twice its size in tiles of 24 pixels, and return the written result too."""
    job = UpscaleJob(folder / "in.png", folder / f"out{suffix}")
    write_image(folder / "in.png", [image], Layout.of(image))
    upscaler = Upscaler(backend or FakeBackend(fake_info()), tile=24, overlap=0)
    outcome = run_jobs(upscaler, [job], RunOptions(**options))
    assert not outcome.failed
    return outcome, read_image(folder / f"out{suffix}").pixels


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("linear_light", [False, True])
@pytest.mark.parametrize(
    ("size", "height", "width"),
    [
        (OutputSize(scale=1.5), 135, 105),
        (OutputSize(width=100), 129, 100),
        (OutputSize(max_side=91), 91, 71),
        (OutputSize(fit=(139, 1000)), 179, 139),
    ],
)
def test_the_result_is_that_of_the_network_reduced(
    tmp_path: Path, suffix: str, linear_light: bool, size: OutputSize, height: int, width: int
) -> None:
    image = noise(90, 70, 3)
    outcome, result = run(tmp_path, image, suffix=suffix, size=size, linear_light=linear_light)
    assert (outcome.finished[0].height, outcome.finished[0].width) == (height, width)
    np.testing.assert_array_equal(result, resize(nearest(image, 2), height, width, linear_light=linear_light))


@pytest.mark.parametrize("size", [OutputSize(), OutputSize(scale=2), OutputSize(height=180), OutputSize(max_side=999)])
def test_nothing_is_reduced_where_the_network_makes_that_size(tmp_path: Path, size: OutputSize) -> None:
    image = noise(90, 70, 3)
    np.testing.assert_array_equal(run(tmp_path, image, size=size)[1], nearest(image, 2))


def test_a_large_image_is_resized_without_the_network(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image, backend = noise(90, 70, 3), FakeBackend(fake_info())
    outcome, result = run(tmp_path, image, backend, size=OutputSize(max_side=45))
    assert backend.calls == []
    assert outcome.finished[0].tiles == 0
    assert "has 70x90 pixels:" in caplog.text
    np.testing.assert_array_equal(result, resize(image, 45, 35))


def test_a_factor_of_one_lets_the_network_clean_the_image(tmp_path: Path) -> None:
    image, backend = noise(90, 70, 3), FakeBackend(fake_info())
    _, result = run(tmp_path, image, backend, size=OutputSize(scale=1))
    assert backend.calls
    np.testing.assert_array_equal(result, resize(nearest(image, 2), 90, 70))


def test_metadata_have_the_final_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Camera Works"
    exif.get_ifd(0x8769)[0xA002] = 70
    Image.fromarray(noise(90, 70, 3)).save(tmp_path / "in.jpg", exif=exif, dpi=(300, 300))
    upscaler = Upscaler(FakeBackend(fake_info()))
    options = RunOptions(size=OutputSize(width=100))
    assert not run_jobs(upscaler, [UpscaleJob(tmp_path / "in.jpg", tmp_path / "out.jpg")], options).failed
    with Image.open(tmp_path / "out.jpg") as result:
        assert result.size == (100, 129)
        assert result.getexif().get_ifd(0x8769)[0xA002] == 100
        assert result.info["dpi"] == (300, 300)


class OnCpu(FakeBackend):
    """Says that it computes where memory is planned."""

    @property
    def device(self) -> str:
        return "ONNX Runtime CPUExecutionProvider"


def test_memory_for_reducing_is_planned(tmp_path: Path) -> None:
    """Without it the limit is enough; what the refusal says is enough with it."""
    Image.fromarray(np.zeros((100, 20000, 3), np.uint8)).save(tmp_path / "in.png")

    def outcome(limit_mib: int, size: OutputSize) -> Outcome:
        budget = MemoryBudget(limit_mib << 20, 10 << 20)
        upscaler = Upscaler(OnCpu(replace(fake_info(), cpu_bytes_per_pixel=10)), tile=48, overlap=0, budget=budget)
        job = UpscaleJob(tmp_path / "in.png", tmp_path / "out.png")
        return run_jobs(upscaler, [job], RunOptions(overwrite=True, size=size))

    assert outcome(45, OutputSize()).finished
    (refused,) = outcome(45, OutputSize(scale=1)).failed
    needed = re.search("needs ([0-9]+) MiB, more than", refused.error)
    assert needed
    assert outcome(int(needed[1]) + 1, OutputSize(scale=1)).finished
