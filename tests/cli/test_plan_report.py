import dataclasses
from pathlib import Path

from drc_deploy.cli.commands.export_command import plan_lines, plan_text
from drc_deploy.engine_info import DlaPlacement, PlanOptions, PlanSidecar, read_sidecar, sidecar_path
from drc_deploy.export.compare.agreement import Agreement
from drc_deploy.export.trt.plan_from_onnx import PlanResult
from drc_deploy.export.verify.onnx_check import OnnxVerification
from tests.export.networks import toy_info

SIDECAR = PlanSidecar(
    engine=toy_info("uint8", tile=(64, 64)),
    builder="tensorrt",
    builder_version="10.3.0",
    gpu="Orin",
    compute_capability="8.7",
    driver=None,
    onnx_file="x.onnx",
    onnx_sha256="a" * 64,
    plan_sha256="b" * 64,
    precision_requested="fp16",
    layers_by_precision={"fp16": 3},
    precision_source="engine",
    verification={},
)


def test_what_fell_back_is_reported_and_survives_the_file(tmp_path: Path) -> None:
    on_gpu = tuple(f"layer_{index} (resize)" for index in range(10))
    sidecar = dataclasses.replace(
        SIDECAR, options=PlanOptions(dla_core=1), dla=DlaPlacement(("a", "b", "c"), on_gpu, ("{part}",))
    )
    sidecar_path(tmp_path / "x.plan").write_text(sidecar.to_json())
    assert read_sidecar(tmp_path / "x.plan") == sidecar
    *_, placed, fallen_back = plan_lines(Path("x.plan"), sidecar, "Built x.plan.")
    assert placed == "DLA core 1: 3 of 13 layers (parts of the engine: 1)."
    assert fallen_back == f"On the GPU: {', '.join(on_gpu[:8])} and 2 more (all in x.plan.json)."


def test_without_a_dla_nothing_is_said_of_it() -> None:
    assert len(plan_lines(Path("x.plan"), SIDECAR, "Built x.plan.")) == 2


def _text(verification: OnnxVerification) -> str:
    sidecar = dataclasses.replace(SIDECAR, verification=dataclasses.asdict(verification))
    return plan_text(PlanResult(Path("x.onnx"), Path("x.plan"), "Built x.plan.", sidecar))


def test_a_plan_that_was_compared_and_one_that_was_not_look_different() -> None:
    compared = _text(OnnxVerification(50, Agreement(61.25, 2, 0.013, 0), ""))
    assert "61.2 dB PSNR (needed 50), 1.30% of samples differ, by 2 at most" in compared
    assert "unverified" not in compared
    assert "the plan is unverified. Not run here: no GPU." in _text(OnnxVerification(50, None, "Not run here: no GPU."))
