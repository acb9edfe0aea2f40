"""A benchmark set that is measured in no time."""

import pytest
from PIL import Image

from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import sample_images
from drc_deploy.train.loop.benchmark_psnr import Benchmark, find_benchmarks


@pytest.fixture(scope="session")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> list[Benchmark]:
    """One pair of photographs, 64x64 and 16x16 pixels."""
    folder = tmp_path_factory.mktemp("eval") / "Set1"
    hr = Image.fromarray(read_rgb(sample_images()[0])[60:124, 60:124])
    for name, image in (("HR", hr), ("LRx4", hr.resize((16, 16), Image.Resampling.BICUBIC))):
        (folder / name).mkdir(parents=True)
        image.save(folder / name / "a.png")
    return find_benchmarks([folder], 4)
