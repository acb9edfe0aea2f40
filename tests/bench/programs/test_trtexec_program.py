import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from drc_deploy.bench.measure.timing import TimingBudget
from drc_deploy.bench.programs.program_backend import ProgramRequest
from drc_deploy.bench.programs.trtexec_program import TrtexecProgram, read_output, read_times
from drc_deploy.engine_info import PlanSidecar, sidecar_path
from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.upscaler import Upscaler
from tests.bench.programs import fake_trtexec
from tests.runtime.fake_backend import fake_info

PLAN = PlanSidecar(
    engine=dataclasses.replace(fake_info(scale=4), tile=(16, 24), max_batch=4),
    builder="tensorrt",
    builder_version="10.7.0",
    gpu="a GPU",
    compute_capability="8.7",
    driver="1",
    onnx_file="x.onnx",
    onnx_sha256="0",
    plan_sha256="0",
    precision_requested="fp32",
    layers_by_precision={},
    precision_source="graph",
    verification={},
)


Start = Callable[..., TrtexecProgram]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Return what starts a shell script as ``trtexec`` over a plan, for inputs of a size."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    started: list[TrtexecProgram] = []

    def start(script: str, size: tuple[int, int] = (99, 99)) -> TrtexecProgram:
        (tmp_path / "trtexec").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "trtexec").chmod(0o755)
        started.append(TrtexecProgram(ProgramRequest(plan(tmp_path), "fixed size", None, size)))
        return started[-1]

    yield start
    for program in started:
        program.close()


def fake(folder: Path, version: str) -> str:
    return f'exec {sys.executable} {fake_trtexec.__file__} {version} {folder / "log"} "$@"'


def plan(folder: Path) -> Path:
    path = folder / "x.plan"
    path.write_bytes(b"plan")
    sidecar_path(path).write_text(PLAN.to_json())
    return path


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


@pytest.mark.parametrize(
    ("version", "asked_for"),
    [("10", {"--useSpinWait", "--useCudaGraph"}), ("11", {"--includeDataTransfers"})],
)
def test_what_a_version_does_not_do_by_itself_is_asked_for(
    tmp_path: Path, start: Start, version: str, asked_for: set[str]
) -> None:
    trtexec = start(fake(tmp_path, version))
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    timed = trtexec.time(Upscaler(trtexec), image, TimingBudget(5, 0.1))
    assert timed.samples_ms == (2.75, 3.75, 4.75, 5.75, 6.75)
    assert {flag for flag in calls(tmp_path)[-1] if "=" not in flag} == asked_for
    assert set(trtexec.settings["flags"].split()) == asked_for | {"--shapes=lr:1x16x24x3"}
    assert "GPU compute time is unstable" in trtexec.settings["trtexec warns"]


def test_an_image_of_any_size_goes_through_in_tiles(tmp_path: Path, start: Start) -> None:
    engine = Upscaler(start(fake(tmp_path, "11")))
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    np.testing.assert_array_equal(engine(image), image.repeat(4, 0).repeat(4, 1))


def test_a_size_that_is_no_tile_is_refused_where_trtexec_times_itself(tmp_path: Path, start: Start) -> None:
    trtexec = start(fake(tmp_path, "11"))
    with pytest.raises(ArtefactError, match="single tiles") as caught:
        trtexec.time(Upscaler(trtexec), np.zeros((20, 40, 3), np.uint8), TimingBudget(5, 0.1))
    assert "--size" in caught.value.hint


def test_a_program_that_fails_says_why(start: Start) -> None:
    trtexec = start("echo '[I] fine'\necho '[E] Error[4]: no CUDA device.'\necho '&&&& FAILED'\nexit 1", (16, 24))
    with pytest.raises(ArtefactError, match=r"trtexec failed: \[E\] Error\[4\]: no CUDA device\.$"):
        trtexec.run(np.zeros((1, 16, 24, 3), np.uint8))


@pytest.mark.parametrize("text", ["", "[]", '[{"computeMs": 1}]', '[{"latencyMs": 0}]', "[{", '{"a": 1}'])
def test_times_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "times.json").write_text(text)
    with pytest.raises(ArtefactError, match="trtexec wrote no times"):
        read_times(tmp_path / "times.json")


@pytest.mark.parametrize("values", [[1, 2], [0] * 11 + [256], "abc", [0] * 11 + ["x"]])
def test_an_output_that_is_no_image_is_refused(tmp_path: Path, values: object) -> None:
    (tmp_path / "output.json").write_text(json.dumps([{"name": "sr", "values": values}]))
    with pytest.raises(ArtefactError, match="no output"):
        read_output(tmp_path / "output.json", (1, 2, 2, 3), "uint8")
