"""The exact variant and the memory that export measures, of a real network in ONNX Runtime."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from drc_deploy.errors import UsageError, VerificationError
from drc_deploy.export import exact
from drc_deploy.export.pipeline import ExportResult, export_checkpoint
from drc_deploy.export.request import ExportRequest
from drc_deploy.export.variants import read_onnx_info
from drc_deploy.images import read_rgb
from drc_deploy.locate import SHIPPED, sample_images
from drc_deploy.runtime.upscaler import Upscaler


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, request_fp16: ExportRequest) -> ExportResult:
    """The shipped network, which unlike a random one pays attention."""
    folder = tmp_path_factory.mktemp("trained")
    checkpoint = SHIPPED / "drn_xs.safetensors"
    return export_checkpoint(
        dataclasses.replace(
            request_fp16, checkpoint=checkpoint, folder=folder, stem="net", precision="fp32", builder=None, exact=True
        )
    )


@pytest.mark.parametrize("path", sample_images()[:2], ids=lambda path: path.stem)
def test_exact_tiles_are_within_a_grey_level_of_the_whole_photograph(path: Path, trained: ExportResult) -> None:
    image = read_rgb(path)[100:220, 60:190]
    with Upscaler.open(trained.onnx, tile=256) as whole, Upscaler.open(trained.onnx, tile=64) as tiled:
        expected, without = whole(image), tiled(image)
    with Upscaler.open(trained.onnx, tile=64, exact=True) as upscaler:
        result = upscaler(image)
    assert np.abs(result.astype(int) - expected).max() <= 1
    assert np.abs(without.astype(int) - expected).max() > 1


def test_exact_tiles_of_graph_and_checkpoint_are_the_same(trained: ExportResult) -> None:
    image = read_rgb(sample_images()[0])[100:220, 60:190]
    results = []
    for path in (trained.onnx, SHIPPED / "drn_xs.safetensors"):
        with Upscaler.open(path, tile=64, exact=True) as upscaler:
            results.append(upscaler(image).astype(int))
    assert np.abs(results[0] - results[1]).max() <= 1
    assert (results[0] != results[1]).mean() < 1e-3


def test_a_graph_whose_tiles_differ_is_not_kept(request_here: ExportRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "CHECK_TILE_PX", 40)
    monkeypatch.setattr("drc_deploy.runtime.exact.PASSES", 0)
    trained = dataclasses.replace(request_here, checkpoint=SHIPPED / "drn_xs.safetensors", exact=True)
    with pytest.raises(VerificationError, match="grey levels from the whole image"):
        export_checkpoint(trained)
    assert not list(request_here.folder.iterdir())


def test_bf16_has_no_exact_variant(request_here: ExportRequest) -> None:
    with pytest.raises(UsageError, match="computes no bf16"):
        dataclasses.replace(request_here, precision="bf16", exact=True)


CHILD = """
import sys
from pathlib import Path
import numpy as np
from drc_deploy.runtime.memory_plan import resident_bytes
from drc_deploy.runtime.upscaler import Upscaler
image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
with Upscaler.open(Path(sys.argv[1]), threads=int(sys.argv[2]), max_memory=int(sys.argv[3])) as upscaler:
    fitted = upscaler.fit(300, 400)
    for strip in upscaler.strips(image):
        pass
print(fitted.peak, resident_bytes(peak=True), fitted.plan.tile_count, fitted.workers)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "mib"), [(1, 1000), (2, 1000), (2, 300), (1, 200)])
def test_the_peak_of_a_process_is_what_was_predicted(threads: int, mib: int, trained: ExportResult) -> None:
    """Within a fifth, and never a twentieth above the limit."""
    command = [sys.executable, "-c", CHILD, str(trained.onnx), str(threads), str(mib << 20)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    predicted, measured, tiles, workers = map(int, done.stdout.split())
    assert predicted <= mib << 20
    assert measured <= 1.05 * (mib << 20)
    assert measured == pytest.approx(predicted, rel=0.2)
    assert tiles > 1
    assert workers <= threads


def test_memory_is_measured_once_and_taken_over_when_nothing_changed(
    exported: ExportResult, request_fp16: ExportRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_onnx_info(exported.onnx)
    assert first is not None
    assert first.cpu_bytes_per_pixel is not None
    # 32 channels of float32 at the lower resolution, and at twice that: a few such tensors are alive at a time.
    assert 2 * 32 * 4 < first.cpu_bytes_per_pixel < 40 * 32 * 4 * 4
    before = exported.onnx.read_bytes()

    def fail(_path: Path) -> int:
        raise AssertionError("measured again")

    monkeypatch.setattr("drc_deploy.export.pipeline.measure_bytes_per_pixel", fail)
    export_checkpoint(dataclasses.replace(request_fp16, builder=None))
    assert exported.onnx.read_bytes() == before
