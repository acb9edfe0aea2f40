import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from drc_deploy.bench import charts
from drc_deploy.bench.axes import Axis, fit_axis
from drc_deploy.bench.console import report_table
from drc_deploy.bench.memory import Reading
from drc_deploy.bench.page import render_page, write_page
from drc_deploy.bench.page_figures import cards, method_section
from drc_deploy.errors import ArtefactError
from tests.bench import fakes


class Balance(HTMLParser):
    """Checks that every element is closed."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(tmp_path: Path) -> str:
    engines = [fakes.engine("full.onnx", 100.0, 30.1), fakes.engine("cut<b>.onnx", 50.0, 30.0)]
    return render_page(
        fakes.report(*engines, fakes.engine("eight.onnx", 900.0, 25.0, scale=8), folder=tmp_path), tmp_path
    )


def test_the_page_is_well_formed_and_says_what_matters(page: str) -> None:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    for words in (
        "one is faster <than> the other",
        "cut<b>.onnx",
        "Test CPU <fast>",
        "The machine was busy.",
        "x.plan",
        "There is no GPU.",
        "+2.10",
        "unavailable: the engine runs on fake",
        "368 are needed",
    ):
        assert words in parser.text


def test_the_page_needs_no_network_and_no_script(page: str) -> None:
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))


def test_the_page_serves_light_dark_and_phones(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert page.count('<svg class="wide"') == page.count('<svg class="narrow"') == 3


def test_the_cards_do_not_mix_scales() -> None:
    engines = (fakes.engine("a", 90.0), fakes.engine("b", 95.0), fakes.engine("eight", 1.0, 40.0, scale=8))
    shown = cards(fakes.report(*engines))
    assert "90.2 ms" in shown
    assert "eight" not in shown


def test_every_way_of_measuring_memory_is_told() -> None:
    on_gpu = dataclasses.replace(fakes.engine("gpu", 1.0), peak_device_memory=Reading(1 << 20, "growth on the GPU"))
    shown = method_section(fakes.report(fakes.engine("cpu", 1.0), on_gpu))
    assert "unavailable: the engine runs on fake; growth on the GPU" in shown


def test_a_report_without_results_still_makes_a_page(tmp_path: Path) -> None:
    assert "x.plan" in write_page(fakes.report(), tmp_path).read_text()


def test_a_crop_that_is_gone_is_named(tmp_path: Path) -> None:
    report = fakes.report(fakes.engine("a", 1.0), folder=tmp_path)
    (tmp_path / "crops/bicubic.png").unlink()
    with pytest.raises(ArtefactError, match=r"crops/bicubic\.png"):
        render_page(report, tmp_path)


def test_the_console_table_has_every_engine_and_reason() -> None:
    text = report_table(fakes.report(fakes.engine("full.onnx", 100.0, 30.1)))
    for words in ("full.onnx", "100.2", "30.10", "+2.10", "bicubic x4", "skipped: x.plan", "beware: The machine"):
        assert words in text


def test_names_with_brackets_are_printed_as_they_are() -> None:
    assert "a[/red][b]:x:.onnx" in report_table(fakes.report(fakes.engine("a[/red][b]:x:.onnx", 100.0)))


def test_a_report_without_results_has_no_empty_table() -> None:
    text = report_table(fakes.report())
    assert "median" not in text
    assert "skipped: x.plan" in text


def test_a_faster_engine_lies_further_left_and_a_better_one_higher() -> None:
    points = [charts.Point(str(n), f"e{n}", n, ms, db, 1 << 20) for n, (ms, db) in enumerate([(10, 29), (20, 31)])]
    svg = ElementTree.fromstring(charts.scatter(points, 28.0, 640, 400))
    discs = {disc.get("r"): disc for disc in svg.iter("circle") if disc.get("class") == "disc"}
    cores = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in svg.iter("circle") if c.get("class") == "core"]
    assert len(discs) == 1
    assert cores[0][0] < cores[1][0]
    assert cores[0][1] > cores[1][1]


def test_badges_of_engines_at_the_same_place_do_not_cover_each_other() -> None:
    points = [charts.Point(str(n), f"e{n}", n % 8, 10.0, 30.0, None) for n in range(6)]
    svg = ElementTree.fromstring(charts.scatter(points, None, 640, 400))
    places = {(c.get("cx"), c.get("cy")) for c in svg.iter("circle") if c.get("class") == "badge"}
    assert len(places) == 6


def test_every_run_is_a_dot_up_to_a_limit() -> None:
    band = charts.Band("1", "e", 0, [1.0 + index for index in range(charts.MAX_DOTS)], 1.0, None)
    assert charts.run_bands([band], 640).count("h0") == charts.MAX_DOTS
    many = charts.Band("1", "e", 0, [1.0] * (5 * charts.MAX_DOTS), 1.0, None)
    assert charts.run_bands([many], 640).count("h0") == charts.MAX_DOTS


def test_an_axis_maps_its_ends_to_its_ends() -> None:
    for logarithmic in (False, True):
        axis = Axis(1.0, 100.0, 50.0, 250.0, logarithmic)
        assert [axis.position(1.0), axis.position(100.0)] == pytest.approx([50.0, 250.0])
    assert Axis(1.0, 100.0, 0.0, 200.0, logarithmic=True).position(10.0) == pytest.approx(100.0)


def test_ticks_are_round_and_inside() -> None:
    assert Axis(0.0, 10.0, 0, 1).ticks() == [0, 2, 4, 6, 8, 10]
    assert Axis(3.0, 60.0, 0, 1, logarithmic=True).ticks() == [5, 10, 20, 50]


def test_a_wide_range_of_latencies_gets_a_logarithmic_axis() -> None:
    assert fit_axis([1.0, 100.0], 0, 1, may_be_log=True).logarithmic
    assert not fit_axis([1.0, 7.0], 0, 1, may_be_log=True).logarithmic
    assert fit_axis([5.0, 5.0], 0, 10).position(5.0) == pytest.approx(5.0)
