"""Other programs that few have installed."""

from pathlib import Path

import numpy as np
import pytest

from drc_deploy.bench.measure.timing import TimingBudget
from drc_deploy.bench.programs.program_backend import ProgramRequest
from drc_deploy.bench.run.other_programs import compare
from drc_deploy.export.export_checkpoint import export_checkpoint
from drc_deploy.export.request import DEFAULT_TILE, ExportRequest
from drc_deploy.locate import SHIPPED, sample_images
from drc_deploy.pairs import Photograph
from drc_deploy.runtime.upscaler import Upscaler

CHECKPOINT = SHIPPED / "drn_xs.safetensors"


@pytest.mark.slow
def test_ncnn_computes_the_same() -> None:
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    from drc_deploy.bench.programs.ncnn_program import NcnnProgram

    image = Photograph(sample_images()[0]).load(4).lr[:37, :51]
    with Upscaler.open(CHECKPOINT, threads=1) as ours:
        theirs = Upscaler(NcnnProgram(ProgramRequest(CHECKPOINT, "float32", 1, (37, 51))))
        compare([ours(image)], [theirs(image)])
        theirs.close()


@pytest.mark.slow
@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_openvino_computes_the_same(hint: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from drc_deploy.bench.programs.openvino_program import OpenVinoProgram

    export_checkpoint(ExportRequest(CHECKPOINT, tmp_path, "net", "fp32", DEFAULT_TILE, 4, None))
    path = tmp_path / "net.onnx"
    image = np.ascontiguousarray(Photograph(sample_images()[0]).load(4).lr[:37, :51])
    with Upscaler.open(path, threads=1) as ours:
        program = OpenVinoProgram(ProgramRequest(path, hint, 2, (37, 51)))
        theirs = Upscaler(program)
        compare([ours(image)], [theirs(image)])
        assert len(program.time(theirs, image, TimingBudget(3, 0.0)).samples_ms) == 3
        assert program.settings["precision"] == "f32"
        theirs.close()
