import dataclasses
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from drc_deploy.bench.measure import quality
from drc_deploy.bench.report.merged import find_notes
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.report.report_files import read_any, read_report, reports_in
from drc_deploy.bench.show.publish import publish
from drc_deploy.errors import ArtefactError, OutputError, UsageError
from tests.bench import fakes
from tests.bench.reports import edit, quiet, saved, steady, with_machine, with_settings
from tests.bench.show.parsed import ParsedPage

NOW = "2026-02-0{}T00:00:00+00:00"


def measured(folder: Path, number: int, *names: str, board: str | None = None) -> Path:
    """Save a report with crops, made at its own time."""
    folder.mkdir()
    report = fakes.report(*(steady(name, 10.0 * number) for name in names), folder=folder)
    return saved(folder, with_machine(dataclasses.replace(report, created=NOW.format(number)), board=board))


def merged_in(path: Path | str) -> tuple[Report, ...]:
    return reports_in(read_any(Path(path)))


def parsed(page: Path) -> ParsedPage:
    return ParsedPage(page.read_text(encoding="utf-8"))


def text_of(page: Path) -> str:
    return parsed(page).text


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [
        measured(tmp_path / "a", 1, "x.onnx", "only_a.onnx"),
        measured(tmp_path / "b", 2, "x.onnx", "<b>.plan", board="Jetson <Orin>"),
    ]


def test_a_page_that_was_lost_is_written_again_next_to_its_report(tmp_path: Path) -> None:
    path = measured(tmp_path / "a", 1, "x.onnx")
    before = path.read_bytes()
    done = publish([path], None, tmp_path / "unused")
    assert (tmp_path / "a/report.html").read_text().count("data:image/png") == 3
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == [
        "crops",
        "report.csv",
        "report.html",
        "report.json",
        "report.md",
    ]
    assert path.read_bytes() == before
    assert done.notes == ()
    assert not (tmp_path / "unused").exists()


def test_a_report_under_another_name_gets_a_page_of_that_name(tmp_path: Path) -> None:
    path = measured(tmp_path / "a", 1, "x.onnx")
    (tmp_path / "a/report.html").write_text("of another report")
    publish([path.rename(path.with_name("jetson.json"))], None, tmp_path)
    assert (tmp_path / "a/jetson.html").is_file()
    assert (tmp_path / "a/report.html").read_text() == "of another report"


def test_a_report_published_elsewhere_stands_there_on_its_own(tmp_path: Path) -> None:
    path = measured(tmp_path / "a", 1, "x.onnx")
    publish([path], tmp_path / "out", tmp_path)
    original = read_report(path)
    assert read_report(tmp_path / "out/report.json") == original
    assert publish([tmp_path / "out/report.json"], None, tmp_path).notes == ()


def test_crops_that_are_gone_are_left_out_and_named(tmp_path: Path) -> None:
    path = measured(tmp_path / "a", 1, "x.onnx")
    (tmp_path / "a/crops/LR.png").unlink()
    done = publish([path], None, tmp_path)
    assert "1 of 1 crops are left out" in done.notes[0]
    assert "data:image" not in (tmp_path / "a/report.html").read_text()


def test_a_name_that_is_no_text_does_not_stop_the_page(tmp_path: Path) -> None:
    path = saved(tmp_path / "a", quiet(steady("\udcff.onnx", 10)))
    publish([path], None, tmp_path)
    assert "\\udcff.onnx" in (tmp_path / "a/report.html").read_text()


def test_a_crop_that_is_no_image_is_not_shown(tmp_path: Path) -> None:
    path = measured(tmp_path / "a", 1, "x.onnx")
    (tmp_path / "a/crops/LR.png").write_text("a secret")
    assert "crops are left out" in publish([path], None, tmp_path).notes[0]


def test_merged_machines_are_columns_and_engines_are_rows(two: list[Path], tmp_path: Path) -> None:
    done = publish(two, tmp_path / "m", tmp_path)
    text = text_of(tmp_path / "m/report.html")
    for words in ("Test CPU <fast>", "Jetson <Orin>", "x.onnx", "only_a.onnx", "<b>.plan", "10.0 ms", "20.0 ms"):
        assert words in text
    across = parsed(tmp_path / "m/report.html").tables["Each engine on every machine, x4"]
    rows = {row[0].split(" ")[1]: row[1:] for row in across[1:]}
    assert [cell.split(" ms ")[0] for cell in rows["x.onnx"]] == ["10.0", "20.0"]
    assert rows["only_a.onnx"][1] == "-"
    assert [report.created for report in merged_in(done.files["report"])] == [NOW.format(1), NOW.format(2)]
    assert len((tmp_path / "m/report.csv").read_text().splitlines()) == 1 + 4 + 2
    assert (tmp_path / "m/report.md").read_text().count("### ") == 2


def test_crops_of_the_same_place_are_shown_once(two: list[Path], tmp_path: Path) -> None:
    publish(two, tmp_path / "m", tmp_path)
    assert (tmp_path / "m/report.html").read_text().count("<figure>") == 3


def test_a_version_that_one_machine_alone_has_is_added_to_the_same_place(two: list[Path], tmp_path: Path) -> None:
    def with_own(path: Path, label: str) -> None:
        assert cv2.imwrite(str(path.parent / f"crops/{label}.png"), np.zeros((8, 8, 3), np.uint8))
        tile = {"label": label, "file": f"crops/{label}.png", "psnr_y": 30.0}
        edit(path, lambda data: data["crops"][0]["tiles"].append(tile))

    with_own(two[0], "only_a.onnx")
    with_own(two[1], "x.onnx")
    publish(two, tmp_path / "m", tmp_path)
    page = (tmp_path / "m/report.html").read_text()
    assert page.count("<figure>") == 5
    assert page.count("<h3>Largest gain") == 1


def test_what_was_merged_can_be_published_again_and_merged_further(two: list[Path], tmp_path: Path) -> None:
    merged = Path(publish(two, tmp_path / "m", tmp_path).files["report"])
    reports = merged_in(merged)
    (tmp_path / "m/report.html").unlink()
    publish([merged], None, tmp_path)
    assert "Jetson" in text_of(tmp_path / "m/report.html")
    assert merged_in(merged) == reports
    third = measured(tmp_path / "c", 3, "x.onnx")
    done = publish([merged, third], tmp_path / "n", tmp_path)
    assert len(merged_in(done.files["report"])) == 3
    assert done.notes == ()


def test_several_reports_go_to_the_default_folder(two: list[Path], tmp_path: Path) -> None:
    assert publish(two, None, tmp_path / "default").files["page"] == str(tmp_path / "default/report.html")


def test_merging_into_the_folder_of_a_report_is_refused_and_changes_nothing(two: list[Path]) -> None:
    before = {path: path.read_bytes() for path in two[1].parent.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="whose page would be lost"):
        publish(two, two[1].parent, two[0])
    assert {path: path.read_bytes() for path in two[1].parent.rglob("*") if path.is_file()} == before


def test_a_report_that_lies_where_another_goes_is_kept(two: list[Path], tmp_path: Path) -> None:
    before = two[1].read_bytes()
    for paths in ([two[0]], [two[0], measured(tmp_path / "c", 3, "x.onnx")]):
        with pytest.raises(UsageError, match="would be lost"):
            publish(paths, tmp_path / "b", tmp_path)
    assert two[1].read_bytes() == before
    assert not (tmp_path / "b/report.html").exists()


def test_a_report_may_be_published_to_the_same_place_twice(two: list[Path], tmp_path: Path) -> None:
    for _ in range(2):
        publish(two[:1], tmp_path / "out", tmp_path)
        publish(two, tmp_path / "m", tmp_path)
    assert read_report(tmp_path / "out/report.json") == read_report(two[0])


def test_what_was_merged_can_be_published_elsewhere(two: list[Path], tmp_path: Path) -> None:
    merged = Path(publish(two, tmp_path / "m", tmp_path).files["report"])
    done = publish([merged], tmp_path / "out", tmp_path)
    assert done.files["report"] == str(tmp_path / "out/reports.json")
    assert merged_in(done.files["report"]) == merged_in(merged)
    assert (tmp_path / "out/report.html").read_text() == (tmp_path / "m/report.html").read_text()


def test_the_same_report_twice_is_refused(two: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    copy.write_bytes(two[0].read_bytes())
    with pytest.raises(ArtefactError, match=r"a/report\.json and .*copy\.json hold the same report"):
        publish([*two, copy], tmp_path / "m", tmp_path)
    assert not (tmp_path / "m").exists()


def test_one_bad_report_among_good_ones_leaves_nothing_behind(two: list[Path], tmp_path: Path) -> None:
    two[1].write_text("{")
    with pytest.raises(ArtefactError, match=r"b/report\.json does not hold valid JSON"):
        publish(two, tmp_path / "m", tmp_path)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("reports", ["[]", "{}", "[3]", '[{"schema": 1}]'])
def test_a_merged_file_that_is_damaged_is_refused(tmp_path: Path, reports: str) -> None:
    path = tmp_path / "reports.json"
    path.write_text(f'{{"schema": 1, "reports": {reports}}}')
    with pytest.raises(ArtefactError, match=r"reports\.json"):
        read_any(path)


def test_a_merged_file_of_another_version_is_refused(two: list[Path], tmp_path: Path) -> None:
    merged = Path(publish(two, tmp_path / "m", tmp_path).files["report"])
    edit(merged, lambda data: data.update(schema=9))
    with pytest.raises(ArtefactError, match="metadata of version 9"):
        read_any(merged)


def test_a_merged_file_is_no_single_report(two: list[Path], tmp_path: Path) -> None:
    merged = Path(publish(two, tmp_path / "m", tmp_path).files["report"])
    with pytest.raises(ArtefactError, match="is not a report"):
        read_report(merged)


def test_a_page_that_cannot_be_written_leaves_no_crops_behind(two: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "report.html").mkdir(parents=True)  # a folder in the place of the page
    for reports in (two[:1], two):
        with pytest.raises(OutputError, match="is a folder"):
            publish(reports, out, tmp_path)
        assert [path.name for path in out.iterdir()] == ["report.html"]


def test_a_crop_that_is_a_pipe_is_left_out(tmp_path: Path) -> None:
    path = measured(tmp_path / "a", 1, "x")
    for crop in (path.parent / "crops").iterdir():
        crop.unlink()
        os.mkfifo(crop)
    assert "crops are left out" in publish([path], None, tmp_path).notes[0]


def test_a_folder_that_cannot_be_written_is_an_error(two: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for paths in (two, two[:1]):
        with pytest.raises(OutputError, match="cannot write"):
            publish(paths, tmp_path / "file", tmp_path)


def notes(*reports: Report) -> str:
    return " ".join(find_notes(reports))


def test_notes_name_the_reasons_why_machines_do_not_compare() -> None:
    base, orin = quiet(steady("x", 10)), with_machine(quiet(steady("x", 30)), board="Orin")
    assert notes(base, orin) == ""
    assert "The inputs differ" in notes(base, with_settings(orin, width=32))
    assert "32x64 on Orin" in notes(base, with_settings(orin, width=32))
    assert "versions of drc-deploy differ" in notes(base, dataclasses.replace(orin, version="9.9"))
    assert "x was not made from the same checkpoint" in notes(base, quiet(steady("x", 1, checkpoint="1" * 64)))
    assert "x produces different images on some machines" in notes(base, quiet(steady("x", 1, 29.9)))
    assert notes(base, quiet(steady("x", 1, 29.97))) == ""


def test_psnr_of_other_images_is_not_compared() -> None:
    coffee = quality.summarise([quality.ImageQuality("coffee", 20.0, 0.5)])
    assert notes(quiet(steady("x", 10)), quiet(steady("x", 10, quality=coffee))) == ""
    base = quiet(steady("x", 10))
    elsewhere = dataclasses.replace(base, baselines=(dataclasses.replace(base.baselines[0], quality=coffee),))
    assert notes(base, elsewhere) == "The images for quality differ, so PSNR and SSIM do not compare."


def test_a_report_without_engines_can_be_merged(two: list[Path], tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    empty = saved(tmp_path / "c", quiet())
    publish([*two, empty], tmp_path / "m", tmp_path)
    assert "There is no GPU." in text_of(tmp_path / "m/report.html")
    publish([empty], None, tmp_path)
    assert json.loads(empty.read_text())["engines"] == []
