import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from drc_deploy.engine_info import PlanOptions, PlanSidecar, read_sidecar, sidecar_path
from drc_deploy.export.export_checkpoint import ExportResult, export_checkpoint
from drc_deploy.export.request import ExportRequest, parse_tile
from drc_deploy.export.trt import plan_export
from drc_deploy.export.trt.plan_export import RECIPE, keepable
from drc_deploy.files import sha256_of
from tests.export.networks import toy_info

WANTED = PlanSidecar(
    engine=toy_info("uint8", tile=(64, 64)),
    builder="tensorrt",
    builder_version="10.3.0",
    gpu="Orin",
    compute_capability="8.7",
    driver=None,
    onnx_file="x.onnx",
    onnx_sha256="a" * 64,
    plan_sha256="",
    precision_requested="fp32",
    layers_by_precision={},
    precision_source="engine",
    verification={},
    recipe=RECIPE,
)
RESULTS = {"onnx_file", "plan_sha256", "layers_by_precision", "precision_source", "verification", "dla"}
"""Fields of a sidecar that a build finds, and the name of the ONNX file, whose content counts."""
OTHER: dict[str, tuple[Any, str]] = {
    "onnx_sha256": ("b" * 64, "onnx from aaaaaaaaaaaa... to bbbbbbbbbbbb..."),
    "builder": ("tensorrt_rtx", "builder from tensorrt to tensorrt_rtx"),
    "builder_version": ("10.7.0", "builder version from 10.3.0 to 10.7.0"),
    "gpu": ("Thor", "gpu from Orin to Thor"),
    "compute_capability": ("11.0", "compute capability from 8.7 to 11.0"),
    "driver": ("580.1", "driver from none to 580.1"),
    "precision_requested": ("fp16", "precision from fp32 to fp16"),
    "tile": ((32, 64), "tile from 64x64 to 32x64"),
    "max_batch": (8, "max batch from 4 to 8"),
    "workspace_mib": (512, "workspace from none to 512"),
    "version_compatible": (True, "version compatible from no to yes"),
    "hardware_compatible": (True, "hardware compatible from no to yes"),
    "dla_core": (0, "dla core from none to 0"),
    "recipe": (0, "recipe from 1 to 0"),
}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan whose sidecar says that it was built as ``WANTED``."""
    path = tmp_path / "x.plan"
    path.write_bytes(b"plan")
    sidecar = dataclasses.replace(WANTED, plan_sha256=sha256_of(path))
    sidecar_path(path).write_text(sidecar.to_json())
    return path


def test_a_plan_of_the_same_source_is_kept(plan: Path) -> None:
    found = keepable(plan, WANTED)
    assert found[0] is not None
    assert found[1].startswith("Kept x.plan: same ONNX, tensorrt 10.3.0,")


def replaced(sidecar: PlanSidecar, name: str, value: Any) -> PlanSidecar:
    """Change a field of a sidecar, of its engine or of its options."""
    for inner in ("engine", "options"):
        record = getattr(sidecar, inner)
        if hasattr(record, name):
            return dataclasses.replace(sidecar, **{inner: dataclasses.replace(record, **{name: value})})
    return dataclasses.replace(sidecar, **{name: value})


def test_every_field_counts() -> None:
    fields = {field.name for field in (*dataclasses.fields(PlanSidecar), *dataclasses.fields(PlanOptions))}
    assert set(OTHER) == fields - RESULTS - {"engine", "options"} | {"tile", "max_batch"}


@pytest.mark.parametrize("field", OTHER)
def test_a_plan_of_another_source_is_built_anew_and_the_change_is_named(plan: Path, field: str) -> None:
    value, words = OTHER[field]
    found = keepable(plan, replaced(WANTED, field, value))
    assert found == (None, f"Built x.plan anew: changed are {words}.")


def test_the_options_of_the_plan_in_place_are_read_from_its_sidecar(plan: Path) -> None:
    sidecar = read_sidecar(plan)
    assert sidecar is not None
    options = PlanOptions(version_compatible=True, hardware_compatible=True, dla_core=1)
    sidecar_path(plan).write_text(dataclasses.replace(sidecar, options=options).to_json())
    assert keepable(plan, dataclasses.replace(WANTED, options=options))[0] is not None
    words = "version compatible from yes to no, hardware compatible from yes to no, dla core from 1 to none"
    assert words in keepable(plan, WANTED)[1]


def test_a_plan_of_an_older_program_is_built_anew(plan: Path) -> None:
    text = sidecar_path(plan).read_text()
    sidecar_path(plan).write_text(text.replace(f', "recipe": {RECIPE}', ""))
    assert "recipe from 0 to 1" in keepable(plan, WANTED)[1]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda plan: plan.unlink(), "Built x.plan."),
        (lambda plan: plan.write_bytes(b"another"), "not the file that its sidecar describes"),
        (lambda plan: sidecar_path(plan).unlink(), "no sidecar that can be read"),
        (lambda plan: sidecar_path(plan).write_text("{"), "no sidecar that can be read"),
    ],
)
def test_what_is_missing_or_damaged_is_built_anew(plan: Path, damage: Any, words: str) -> None:
    damage(plan)
    found = keepable(plan, WANTED)
    assert found[0] is None
    assert words in found[1]


@pytest.fixture(scope="module")
def first(request_fp16: ExportRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportRequest, ExportResult]:
    pytest.importorskip("tensorrt_rtx")
    request = dataclasses.replace(request_fp16, folder=tmp_path_factory.mktemp("kept"), tile=parse_tile("32"))
    return request, export_checkpoint(request)


def test_the_same_export_again_keeps_the_plan_without_a_build(
    first: tuple[ExportRequest, ExportResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    request, result = first
    assert result.plan is not None
    assert result.plan_history == "Built net.plan."
    before = result.plan.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(plan_export, "build_plan", None)  # calling it would fail
        again = export_checkpoint(request)
    assert again.plan_history.startswith("Kept net.plan")
    assert result.plan.read_bytes() == before
    assert again.sidecar == result.sidecar
    assert sorted(os.listdir(request.folder)) == ["net.float.onnx", "net.onnx", "net.plan", "net.plan.json"]


def test_another_option_builds_it_anew(first: tuple[ExportRequest, ExportResult]) -> None:
    request, _ = first
    changed = export_checkpoint(dataclasses.replace(request, workspace_mib=4096))
    assert changed.plan_history == "Built net.plan anew: changed are workspace from none to 4096."
    assert changed.sidecar is not None
    assert changed.sidecar.workspace_mib == 4096
