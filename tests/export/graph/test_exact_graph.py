"""The exact variant and the memory that export measures, of a real network in ONNX Runtime."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from drc_deploy.engine_info import (
    GIVEN_NAME,
    INPUT_NAME,
    KEPT_NAME,
    MEANS_NAME,
    Precision,
    read_onnx_info,
    read_sidecar,
)
from drc_deploy.errors import UsageError, VerificationError
from drc_deploy.export.export_checkpoint import ExportResult, export_checkpoint
from drc_deploy.export.graph import exact_graph as exact
from drc_deploy.export.request import ExportRequest
from drc_deploy.export.trt.builders import PlanShape, build_plan
from drc_deploy.export.trt.libraries import find_library
from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import SHIPPED, sample_images
from drc_deploy.runtime.tiling.memory_probe import measure_bytes_per_pixel
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
    image = read_rgb(path)[100:180, 60:150]
    with Upscaler.open(trained.onnx, tile=256) as whole, Upscaler.open(trained.onnx, tile=64) as tiled:
        expected, without = whole(image), tiled(image)
    with Upscaler.open(trained.onnx, tile=64, exact=True) as upscaler:
        result = upscaler(image)
    assert np.abs(result.astype(int) - expected).max() <= 1
    assert np.abs(without.astype(int) - expected).max() > 1


def test_exact_tiles_of_graph_and_checkpoint_are_the_same(trained: ExportResult) -> None:
    image = read_rgb(sample_images()[0])[100:180, 60:150]
    results = []
    for path in (trained.onnx, SHIPPED / "drn_xs.safetensors"):
        with Upscaler.open(path, tile=64, exact=True) as upscaler:
            results.append(upscaler(image).astype(int))
    assert np.abs(results[0] - results[1]).max() <= 1
    assert (results[0] != results[1]).mean() < 1e-3


def test_a_graph_whose_tiles_differ_is_not_kept(request_here: ExportRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "USUAL", dataclasses.replace(exact.USUAL, tile_px=40))
    monkeypatch.setattr("drc_deploy.runtime.tiling.exact.PASSES", 0)
    trained = dataclasses.replace(request_here, checkpoint=SHIPPED / "drn_xs.safetensors", precision="fp32", exact=True)
    with pytest.raises(VerificationError, match="grey levels from the whole image"):
        export_checkpoint(trained)
    assert not list(request_here.folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_exact_graph_becomes_a_plan_too(precision: Precision, request_here: ExportRequest) -> None:
    pytest.importorskip("tensorrt_rtx")
    request = dataclasses.replace(
        request_here, checkpoint=SHIPPED / "drn_xs.safetensors", precision=precision, builder="tensorrt_rtx", exact=True
    )
    result = export_checkpoint(request)
    assert result.exact_plan == request.folder / "net.exact.plan"
    sidecar = read_sidecar(result.exact_plan)
    assert sidecar is not None
    assert sidecar.onnx_file == "net.exact.onnx"
    assert (sidecar.engine.io_dtype, sidecar.engine.max_batch, sidecar.engine.tile) == ("float32", 1, (128, 128))
    kinds = sidecar.layers_by_precision
    assert kinds[precision] > kinds["fp32"] > 0
    assert result.exact_plan.read_bytes()[:4] == b"vtrt"
    again = export_checkpoint(request)
    assert again.plan_history.startswith("Kept net.plan")
    assert again.exact_plan is not None
    assert again.exact_plan.read_bytes() == result.exact_plan.read_bytes()


def test_an_exact_graph_in_float32_is_built(trained: ExportResult) -> None:
    pytest.importorskip("tensorrt_rtx")
    assert trained.exact_onnx is not None
    built = build_plan(find_library("tensorrt_rtx", None), trained.exact_onnx, "fp32", PlanShape((128, 128), 1))
    assert set(built.precision.convolutions) == {"fp32"}


def test_no_input_of_the_exact_graph_decides_on_shapes(trained: ExportResult) -> None:
    """TensorRT could not choose kernels for such shapes, and a CUDA graph could not hold them."""
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(trained.exact_onnx))
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    assert [tensor.name for tensor in inputs] == [INPUT_NAME, KEPT_NAME, MEANS_NAME, GIVEN_NAME]
    assert not any(tensor.is_shape_tensor for tensor in inputs)


def test_bf16_has_no_exact_variant_without_a_plan(request_here: ExportRequest) -> None:
    with pytest.raises(UsageError, match="computes no bf16"):
        dataclasses.replace(request_here, precision="bf16", exact=True)


CHILD = """
import sys
from pathlib import Path
import numpy as np
from drc_deploy.runtime.memory.host import resident_bytes
from drc_deploy.runtime.tiling.memory_plan import Images
from drc_deploy.runtime.upscaler import Upscaler
path, threads, limit, exact, channels, dtype = sys.argv[1:]
shape = (300, 400, int(channels))
image = np.random.default_rng(0).integers(0, 256, shape, dtype)
options = {"threads": int(threads), "max_memory": int(limit) << 20, "exact": exact == "exact"}
with Upscaler.open(Path(path), **options) as upscaler:
    for strip in upscaler.strips(image):
        pass
    fitted = upscaler.fit(Images(300, 400, dtype, alpha=int(channels) == 4))
print(fitted.peak, resident_bytes(peak=True), fitted.plan.tile_count, fitted.workers)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("threads", "mib", "exact", "channels", "dtype"),
    [
        (1, 1000, "", 3, "uint8"),
        (2, 1000, "", 3, "uint8"),
        (2, 200, "", 3, "uint8"),
        (1, 150, "", 4, "uint8"),
        (1, 200, "", 3, "uint16"),
        (1, 200, "exact", 3, "uint8"),
    ],
)
def test_the_peak_of_a_process_is_what_was_predicted(
    threads: int, mib: int, exact: str, channels: int, dtype: str, trained: ExportResult
) -> None:
    """Within a tenth, and never above the limit. On a busy machine two tiles may never be at their peaks together."""
    arguments = [str(trained.onnx), str(threads), str(mib), exact, str(channels), dtype]
    done = subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=True)
    predicted, measured, tiles, workers = map(int, done.stdout.split())
    assert predicted <= mib << 20
    assert measured <= mib << 20
    never_together = 0.5 * (predicted / workers) * (workers - 1)
    assert 0.9 * predicted - never_together <= measured <= 1.1 * predicted
    assert tiles > 1
    assert workers <= threads


def test_the_exact_graph_has_its_own_memory_in_its_metadata(trained: ExportResult) -> None:
    """It keeps one part of a tile's features at a time, and not those of all its pools."""
    assert trained.exact_onnx is not None
    plain, own = read_onnx_info(trained.onnx), read_onnx_info(trained.exact_onnx)
    assert plain.cpu_bytes_per_pixel is not None
    assert own.cpu_bytes_per_pixel is not None
    assert plain.cpu_bytes_per_pixel < own.cpu_bytes_per_pixel < 1.3 * plain.cpu_bytes_per_pixel


def test_an_export_to_another_place_has_the_same_bytes(
    exported: ExportResult,
    request_fp16: ExportRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trace_anew: Callable[..., onnx.ModelProto],
) -> None:
    first = read_onnx_info(exported.onnx)
    assert first.cpu_bytes_per_pixel is not None
    # 32 channels of float32 at the lower resolution, and at twice that: a few such tensors are alive at a time.
    assert 2 * 32 * 4 < first.cpu_bytes_per_pixel < 40 * 32 * 4 * 4
    monkeypatch.setattr("drc_deploy.export.graph.graph._export_onnx", trace_anew)
    again = export_checkpoint(dataclasses.replace(request_fp16, builder=None, folder=tmp_path))
    for before, after in ((exported.onnx, again.onnx), (exported.float_onnx, again.float_onnx)):
        assert before.read_bytes() == after.read_bytes()
    if exported.exact_onnx:
        assert again.exact_onnx
        assert exported.exact_onnx.read_bytes() == again.exact_onnx.read_bytes()


def test_memory_is_the_same_in_every_measurement(trained: ExportResult) -> None:
    assert trained.exact_onnx
    for path in (trained.onnx, trained.exact_onnx):
        assert len({measure_bytes_per_pixel(path) for _ in range(4)}) == 1
