from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drc_deploy.bench.report.report_files import read_report
from drc_deploy.errors import ArtefactError
from tests.bench import fakes
from tests.bench.reports import edit, quiet, saved, steady

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(tmp_path, fakes.report(steady("x", 10), steady("y", 20), folder=tmp_path))


def test_a_report_as_it_was_written_is_right(path: Path) -> None:
    assert [engine.name for engine in read_report(path).engines] == ["x", "y"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(created="yesterday"), "'yesterday' is not a time"),
        (lambda data: data["engines"][0].update(name="y"), "two engines have the same name"),
        (lambda data: data["engines"][0]["latency"].update(median_ms=0), "a time that is not positive"),
        (lambda data: data["engines"][0]["latency"]["rounds_ms"][3].append(-1), "a time that is not positive"),
        (lambda data: data["engines"][0]["latency"]["rounds_ms"].append([]), "a round without a time"),
        (lambda data: data["engines"][0]["latency"].update(rounds_ms=[]), "a round without a time"),
        (
            lambda data: data["engines"][0]["quality"].update(ssim_y=float("nan")),
            "a number is infinite, NaN",
        ),
        (lambda data: data["engines"][1].update(load_ms=float("inf")), "a number is infinite, NaN"),
        (lambda data: data["engines"][1].update(load_ms=1e308), "larger than anything measured"),
        (lambda data: data["machine"].update(memory_bytes=0), "takes no memory"),
        (lambda data: data["engines"][1].update(size_bytes=-1), "takes no memory"),
        (lambda data: data["engines"][1]["peak_host_memory"].update(value=0), "takes no memory"),
        (lambda data: data["engines"][1]["peak_device_memory"].update(value=-1), "takes no memory"),
        (
            lambda data: data["engines"][1]["latency"].update(outliers=[999]),
            "y has a number of runs",
        ),
        (
            lambda data: data["engines"][1]["latency"]["rounds_ms"].pop(),
            "y has a number of runs",
        ),
        (lambda data: data["engines"][1]["quality"].update(rows=[]), "y was scored on no image"),
        (lambda data: data.update(baselines=[]), "bicubic upscaling by 4 is missing"),
        (lambda data: data["machine"].update(cpu=None), "the machine's cpu is missing without a reason"),
        (lambda data: data["settings"].update(width=0), "the input has no pixels"),
        (lambda data: data["crops"][0]["tiles"][0].update(file="../../secret.png"), "not a crop of this report"),
        (lambda data: data["crops"][0]["tiles"][0].update(file="/etc/passwd"), "not a crop of this report"),
        (lambda data: data["crops"][0]["tiles"][0].update(file="crops/.."), "not a crop of this report"),
        (lambda data: data["crops"][0]["tiles"][0].update(file="report.json"), "not a crop of this report"),
        (
            lambda data: data["crops"][0].update(kernels=[{"label": "true", "file": "/etc/passwd", "error": None}]),
            "not a crop of this report",
        ),
    ],
)
def test_a_report_that_no_run_gives_is_refused_with_what_is_wrong(path: Path, change: Change, message: str) -> None:
    with pytest.raises(ArtefactError, match=r"report\.json cannot be right") as caught:
        read_report(edit(path, change))
    assert message in caught.value.message
    assert "drc-deploy bench" in caught.value.hint


@pytest.mark.parametrize(
    ("version", "hint"), [(2, "Update drc-deploy"), (0, "Make the file again"), (None, "Make the file again")]
)
def test_another_version_says_what_to_do(path: Path, version: object, hint: str) -> None:
    with pytest.raises(ArtefactError, match=f"metadata of version {version}") as caught:
        read_report(edit(path, lambda data: data.update(schema=version)))
    assert hint in caught.value.hint


def test_a_report_of_a_newer_program_may_have_more_fields(path: Path) -> None:
    assert read_report(edit(path, lambda data: data["engines"][0].update(colour="blue"))).engines[0].name == "x"


def test_a_cut_report_is_refused(path: Path) -> None:
    path.write_text(path.read_text()[:2000])
    with pytest.raises(ArtefactError, match="valid JSON"):
        read_report(path)


@pytest.mark.parametrize("text", ["{}", '{"schema": 1, "widths": [4]}'])
def test_json_of_something_else_is_no_report(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ArtefactError, match=r"x\.json is not a report"):
        read_report(tmp_path / "x.json")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="is a folder") as caught:
        read_report(tmp_path)
    assert "report.json in it" in caught.value.hint


def test_a_report_without_engines_can_be_read(tmp_path: Path) -> None:
    assert read_report(saved(tmp_path, quiet())).engines == ()


@pytest.mark.parametrize("count", [0, 100, 102])
@pytest.mark.parametrize("series", range(4))
def test_a_sensor_without_a_sample_for_each_time_is_refused(tmp_path: Path, series: int, count: int) -> None:
    def change(data: dict[str, Any]) -> None:
        data["telemetry"]["trace"]["tracks"][0]["series"][series]["values"] = [1.0] * count

    path = saved(tmp_path, fakes.with_telemetry(fakes.report(steady("x", 10))))
    read_report(path)
    with pytest.raises(ArtefactError, match=f"{count} samples for 101 times"):
        read_report(edit(path, change))
