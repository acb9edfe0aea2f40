import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from drc_deploy import records
from drc_deploy.bench.report.report_files import write_report
from drc_deploy.checkpoint_info import METADATA_KEY, CheckpointInfo
from drc_deploy.cli.commands.info_command import describe_file, facts_text
from drc_deploy.engine_info import PlanSidecar, sidecar_path
from drc_deploy.errors import ArtefactError
from drc_deploy.files import sha256_of
from drc_deploy.widths import WidthsFile, write_widths
from tests.bench import fakes
from tests.runtime.fake_backend import fake_info


def write_plan(folder: Path) -> Path:
    """Write a plan with a sidecar that belongs to it."""
    plan = folder / "a.plan"
    plan.write_bytes(b"plan of a later version")
    sidecar = PlanSidecar(
        engine=fake_info(),
        builder="tensorrt_rtx",
        builder_version="1.7.1",
        gpu=None,
        compute_capability=None,
        driver=None,
        onnx_file="a.onnx",
        onnx_sha256="0" * 64,
        plan_sha256=sha256_of(plan),
        precision_requested="fp16",
        layers_by_precision={"fp16": 9},
        precision_source="engine",
        verification={},
    )
    sidecar_path(plan).write_text(sidecar.to_json())
    return plan


def test_a_checkpoint_shows_its_metadata(tmp_path: Path) -> None:
    info = CheckpointInfo("drn_xs", 4, (8, 16), 2, 1234, {"steps": 7}, None, "progressive")
    path = tmp_path / "a.safetensors"
    save_file({"w": np.zeros(3)}, path, {METADATA_KEY: records.to_json(info)})
    facts = describe_file(path)
    assert facts["kind"] == "checkpoint"
    assert facts["sha256"] == sha256_of(path)
    assert dataclasses.asdict(info).items() <= facts.items()
    assert "  steps  7" in facts_text(facts)


def test_a_widths_file_shows_each_layer(tmp_path: Path) -> None:
    path = tmp_path / "a.widths.json"
    write_widths(path, WidthsFile("drn_xs", 4, 0.3, ("down0", "down1"), (4, 12), "search"))
    assert describe_file(path)["widths"] == {"down0": 4, "down1": 12}


def test_a_plan_shows_its_sidecar_and_whether_it_was_changed(tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    facts = describe_file(plan)
    assert (facts["sidecar_matches"], facts["builder"], facts["model"]) == (True, "tensorrt_rtx", "fake")
    plan.write_bytes(b"vtrt of another build")
    assert describe_file(plan)["sidecar_matches"] is False


@pytest.mark.parametrize(
    ("start", "library"), [(b"ftrt", "TensorRT"), (b"vtrt", "TensorRT for RTX"), (b"ptrt", "TensorRT (7 or older)")]
)
def test_a_plan_without_a_sidecar_shows_what_can_be_known(tmp_path: Path, start: bytes, library: str) -> None:
    (tmp_path / "a.plan").write_bytes(start + bytes(20))
    facts = describe_file(tmp_path / "a.plan")
    assert facts["size_bytes"] == 24
    assert facts["kind"] == f"{library} plan without a sidecar"


def test_a_plan_that_tensorrt_for_rtx_builds_is_known_as_one(tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    layer = network.add_activation(network.add_input("x", trt.float32, (1, 1, 4, 4)), trt.ActivationType.RELU)
    network.mark_output(layer.get_output(0))
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    (tmp_path / "a.plan").write_bytes(plan)
    assert describe_file(tmp_path / "a.plan")["kind"] == "TensorRT for RTX plan without a sidecar"


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"", "is empty"), (b"\x93random bytes", "does not begin as a TensorRT plan does"), (b"vt", "does not begin")],
)
@pytest.mark.parametrize("with_sidecar", [False, True])
def test_a_file_that_cannot_be_a_plan_is_refused(
    tmp_path: Path, content: bytes, fault: str, with_sidecar: bool
) -> None:
    plan = write_plan(tmp_path)
    if not with_sidecar:
        sidecar_path(plan).unlink()
    plan.write_bytes(content)
    with pytest.raises(ArtefactError, match=rf"a\.plan {fault}"):
        describe_file(plan)


def test_a_report_shows_its_result(tmp_path: Path) -> None:
    path = write_report(fakes.report(fakes.engine("a.onnx", 10.0)), tmp_path)
    facts = describe_file(path)
    assert facts["engines"]["a.onnx"]["psnr_y"] == 30.0
    assert facts["not_measured"] == {"x.plan": "skipped: There is no GPU."}


def test_an_onnx_of_another_program_shows_its_inputs(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from drc_deploy.cli.doctor_checks import IDENTITY_ONNX

    (tmp_path / "a.onnx").write_bytes(IDENTITY_ONNX)
    facts = describe_file(tmp_path / "a.onnx")
    assert facts["kind"] == "ONNX of another program"
    assert facts["inputs"] == {"x": "tensor(float) [1]"}


@pytest.mark.parametrize("name", ["a.safetensors", "a.onnx", "a.widths.json", "report.json"])
@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    if name == "a.onnx":
        pytest.importorskip("onnxruntime")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtefactError, match=name):
        describe_file(tmp_path / name)


def test_an_onnx_whose_metadata_are_no_text_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from drc_deploy.cli.doctor_checks import IDENTITY_ONNX

    entry = b"\x0a\x01k\x12\x01\xff"  # StringStringEntryProto: key "k", value of one byte that is not UTF-8
    (tmp_path / "a.onnx").write_bytes(IDENTITY_ONNX + b"\x72" + bytes([len(entry)]) + entry)  # ModelProto, field 14
    with pytest.raises(ArtefactError, match=r"a\.onnx"):
        describe_file(tmp_path / "a.onnx")


def test_an_unknown_kind_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ArtefactError, match="no kind known") as caught:
        describe_file(tmp_path / "a.txt")
    assert ".safetensors" in caught.value.hint
