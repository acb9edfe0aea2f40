import base64
import dataclasses
import hashlib
import random
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from drc_deploy.bench.machine.memory import Reading
from drc_deploy.bench.measure import latency
from drc_deploy.bench.measure.intervals import Interval
from drc_deploy.bench.measure.layer_times import LayerProfile, LayerTime
from drc_deploy.bench.measure.measurement import Measurement
from drc_deploy.bench.report.conclusions import comparisons
from drc_deploy.bench.report.records import EngineResult, ProgramResult, Report
from drc_deploy.bench.show import charts, console
from drc_deploy.bench.show.chart_sections import pareto_front
from drc_deploy.bench.show.charts import MAX_POINTS, Panel, distributions, rates, thinned, traces
from drc_deploy.bench.show.console import report_table
from drc_deploy.bench.show.drawing import Axis, fit_axis
from drc_deploy.bench.show.page import cards, render_page
from drc_deploy.bench.show.view import TEMPLATES
from drc_deploy.errors import ArtefactError
from tests.bench import fakes
from tests.bench.reports import quiet, steady, timed_otherwise
from tests.bench.show.parsed import ParsedPage


def parsed(report: Report) -> ParsedPage:
    """Return the page of a report without crops."""
    return ParsedPage(render_page(report, Path("unused")))


@pytest.fixture
def page(tmp_path: Path) -> str:
    engines = [fakes.engine("full.onnx", 100.0, 30.1), fakes.engine("cut<b>.onnx", 50.0, 30.0)]
    return render_page(
        fakes.report(*engines, fakes.engine("eight.onnx", 900.0, 25.0, scale=8), folder=tmp_path), tmp_path
    )


def test_the_page_is_well_formed_and_says_what_matters(page: str) -> None:
    text = ParsedPage(page).text
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
        assert words in text


def test_the_page_needs_no_network_and_one_script_that_its_policy_knows(page: str) -> None:
    assert not re.search(r"https?://|<link|@import|url\(", page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert policy.start() < min(page.index("<style"), page.index("<script"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["img-src"] == "data:"
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))


def test_the_page_serves_light_dark_and_phones(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert ParsedPage(page).count("svg", "wide") == ParsedPage(page).count("svg", "narrow") == 4


def test_the_cards_do_not_mix_scales() -> None:
    engines = (fakes.engine("a", 90.0), fakes.engine("b", 95.0), fakes.engine("eight", 1.0, 40.0, scale=8))
    assert cards(fakes.report(*engines))[0] == ("Lowest median", "90.2 ms", "a")
    assert "eight" not in {engine for _, _, engine in cards(fakes.report(*engines))}


def test_every_way_of_measuring_memory_is_named() -> None:
    on_gpu = dataclasses.replace(fakes.engine("gpu", 1.0), peak_device_memory=Reading(1 << 20, "growth on the GPU"))
    method = parsed(fakes.report(fakes.engine("cpu", 1.0), on_gpu)).section("method")
    assert "device memory unavailable: the engine runs on fake; growth on the GPU" in method


def test_a_report_without_results_still_makes_a_page(tmp_path: Path) -> None:
    assert "x.plan" in render_page(fakes.report(), tmp_path)


def test_a_crop_that_is_gone_is_named(tmp_path: Path) -> None:
    report = fakes.report(fakes.engine("a", 1.0), folder=tmp_path)
    (tmp_path / "crops/bicubic.png").unlink()
    with pytest.raises(ArtefactError, match=r"crops/bicubic\.png"):
        render_page(report, tmp_path)


def test_the_console_table_has_every_engine_and_reason() -> None:
    text = report_table(fakes.report(fakes.engine("full.onnx", 100.0, 30.1)))
    for words in ("full.onnx", "100.2", "30.10", "+2.10", "bicubic x4", "skipped: x.plan", "warning: The machine"):
        assert words in text


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_every_figure_can_be_read_on_a_narrow_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "PLAIN_WIDTH", columns)
    report = fakes.report(fakes.engine("drn_s_r30.onnx", 50.0, 30.1), fakes.engine("drn_s.safetensors", 100.0, 30.2))
    table = [line for line in report_table(report).splitlines() if set(line) & set("┃│")]
    assert max(map(len, table)) <= columns
    words = "\n".join(table)
    for word in (
        "drn_s_r30.onnx",
        "drn_s.safetensors",
        "median ms",
        "images/s",
        "PSNR-Y dB",
        "SSIM-Y",
        "30.10",
        "30.20",
    ):
        assert word in words


def test_names_with_brackets_are_printed_as_they_are() -> None:
    assert "a[/red][b]:x:.onnx" in report_table(fakes.report(fakes.engine("a[/red][b]:x:.onnx", 100.0)))


def test_a_report_without_results_has_no_empty_table() -> None:
    text = report_table(fakes.report())
    assert "median" not in text
    assert "skipped: x.plan" in text


def test_a_faster_engine_lies_further_left_and_a_better_one_higher() -> None:
    points = [
        charts.Point(n, f"e{n}", ms, db, 1 << 20, on_front=True) for n, (ms, db) in enumerate([(10, 29), (20, 31)])
    ]
    svg = ElementTree.fromstring(charts.scatter(points, 28.0, 640))
    discs = {disc.get("r"): disc for disc in svg.iter("circle") if disc.get("class") == "disc"}
    cores = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in svg.iter("circle") if c.get("class") == "core"]
    assert len(discs) == 1
    assert cores[0][0] < cores[1][0]
    assert cores[0][1] > cores[1][1]


def test_badges_of_engines_at_the_same_place_do_not_cover_each_other() -> None:
    points = [charts.Point(n, f"e{n}", 10.0, 30.0, None, on_front=True) for n in range(6)]
    svg = ElementTree.fromstring(charts.scatter(points, None, 640))
    places = {(c.get("cx"), c.get("cy")) for c in svg.iter("circle") if c.get("class") == "badge"}
    assert len(places) == 6


def timed(samples_ms: list[float]) -> EngineResult:
    return dataclasses.replace(fakes.engine("e", 1.0), latency=latency.summarise([samples_ms]))


def test_every_run_is_a_dot_up_to_a_limit() -> None:
    few = timed([100.0 + index for index in range(charts.MAX_DOTS)])
    assert charts.run_bands([few], 640).count("h0") == charts.MAX_DOTS
    many = timed([1.0] * (5 * charts.MAX_DOTS))
    assert charts.run_bands([many], 640).count("h0") == charts.MAX_DOTS


def test_outliers_bear_rings_at_their_dots_also_where_dots_are_thinned() -> None:
    samples = [1.0 + 0.001 * (index % 7) for index in range(5 * charts.MAX_DOTS)]
    samples[1] = 1.5
    chart = ElementTree.fromstring(charts.run_bands([timed(samples)], 640))
    paths = {path.get("class"): path.get("d", "") for path in chart.iter("path")}
    assert paths["rings"].count("h0") == 1
    assert paths["rings"] in paths["dots e0"]


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


def random_engines(seed: int) -> list[EngineResult]:
    dice = random.Random(seed)
    return [fakes.engine(f"e{n}", dice.randint(1, 9), dice.choice([29.0, 29.5, 30.0, 30.5])) for n in range(12)]


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_left_when_all_dominated_engines_are_gone(seed: int) -> None:
    engines = random_engines(seed)
    front = pareto_front(engines)
    levels = sorted({engine.latency.median_ms for engine in engines})
    best_until = [max(e.quality.psnr_y or 0 for e in engines if e.latency.median_ms <= level) for level in levels]
    # Read off the running maximum: an engine is on the front where the maximum rises to its PSNR.
    rises = {
        (ms, db)
        for index, (ms, db) in enumerate(zip(levels, best_until, strict=True))
        if db > max([0, *best_until[:index]])
    }
    assert {(engine.latency.median_ms, engine.quality.psnr_y) for engine in front} == rises
    assert [engine.latency.median_ms for engine in front] == sorted(engine.latency.median_ms for engine in front)


def test_two_engines_with_the_same_figures_are_both_on_the_front() -> None:
    assert len(pareto_front([fakes.engine("a", 10.0), fakes.engine("b", 10.0)])) == 2


def test_the_front_is_drawn_and_named_and_other_engines_are_pale(tmp_path: Path) -> None:
    engines = [fakes.engine("fast", 10.0, 29.0), fakes.engine("good", 20.0, 30.0), fakes.engine("worse", 30.0, 29.5)]
    page = render_page(fakes.report(*engines), tmp_path)
    assert (
        "The line is the Pareto front of the medians: fast, good. Pale engines are not on it" in ParsedPage(page).text
    )
    wide = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    (front,) = (path.get("d", "") for path in wide.iter("path") if path.get("class") == "front")
    assert front.count("V") == 2
    pale = [group for group in wide.iter("g") if "dominated" in group.get("class", "")]
    assert [title.text for group in pale for title in group.iter("title")] == ["worse: 30.1 ms, 29.50 dB"]


def test_the_distribution_reaches_half_of_the_runs_at_the_median() -> None:
    samples = [float(value) for value in range(50, 151)]  # the median is 100, so 1.0 must lie at half of the height
    chart = ElementTree.fromstring(distributions([timed(samples)], 1020))
    (curve,) = (path.get("d", "") for path in chart.iter("path") if "curve" in path.get("class", ""))
    steps = [(float(x), float(y)) for x, y in re.findall(r"H([\d.]+)V([\d.]+)", curve)]
    start, end = (float(number) for number in re.match(r"M([\d.]+) ([\d.]+)", curve).groups())  # type: ignore[union-attr]
    height = end - steps[-1][1]
    middle = (steps[0][0] + steps[-1][0]) / 2
    at_median = max(step for step in steps if step[0] <= middle + 0.1)
    assert (end - at_median[1]) / height == pytest.approx(0.5, abs=0.01)
    assert steps == sorted(steps, key=lambda step: (step[0], -step[1]))
    assert start < steps[0][0]


def test_runs_beyond_the_axis_are_counted() -> None:
    chart = distributions([timed([1.0] * 9 + [7.0])], 1020)
    assert "1 of 10 runs beyond 2x" in chart


def test_a_constant_power_comes_out_of_an_energy_counter_that_starts_anew() -> None:
    counter = [(0.0, 100.0), (1.0, 107.0), (2.0, 3.0), (3.0, 10.0), (4.0, None), (5.0, 24.0)]
    assert rates(counter) == [(0.5, 7.0), (1.5, None), (2.5, 7.0), (3.5, None), (4.5, None)]


def test_thinning_keeps_the_mean_and_the_gaps() -> None:
    points = [(float(n), None if 1000 <= n < 1500 else float(n)) for n in range(4000)]
    thin = thinned(points)
    assert len(thin) == MAX_POINTS
    assert all(value is None or value == pytest.approx(at) for at, value in thin)
    assert sum(value is None for _, value in thin) == 50


def test_rounds_are_shaded_where_they_were() -> None:
    panel = Panel("power, W", {"CPU": [(float(n), 10.0 + n) for n in range(101)]})
    chart = ElementTree.fromstring(traces([panel], [[], [], [(20.0, 40.0), (60.0, 70.0)]], 1020))
    shades = [rect for rect in chart.iter("rect") if rect.get("class") == "shade e2"]
    widths = [float(rect.get("width", 0)) for rect in shades]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    left = [float(rect.get("x", 0)) for rect in shades]
    assert (left[1] - left[0]) / widths[0] == pytest.approx(2.0, abs=0.02)


def test_a_gap_in_a_trace_is_not_bridged() -> None:
    panel = Panel("power, W", {"CPU": [(0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 4.0), (4.0, 5.0)]})
    chart = ElementTree.fromstring(traces([panel], [], 1020))
    (path,) = (path.get("d", "") for path in chart.iter("path"))
    assert path.count("M") == 2
    assert path.count("L") == 2


def test_the_page_shows_power_energy_and_throttling() -> None:
    report = fakes.with_telemetry(fakes.report(fakes.engine("a<i>", 10.0), fakes.engine("b", 20.0)))
    page = parsed(report)
    for words in ("package-0, from its energy counter", "Throttled by too <hot> (20% of the time)", "GPU <x>"):
        assert words in page.section("machine-over-time")
    energies = page.tables["Energy of each engine"]
    assert energies[0][:3] == ["engine", "J per image", "mean W"]
    assert energies[1][:3] == ["1 a<i>", "2.5", "25.0"]


def test_an_engine_without_energy_keeps_its_number_in_the_table_of_energies() -> None:
    report = fakes.with_telemetry(fakes.report(fakes.engine("a", 10.0), fakes.engine("b", 20.0)))
    first = dataclasses.replace(report.engines[0], telemetry=None)
    energies = parsed(dataclasses.replace(report, engines=(first, report.engines[1]))).tables["Energy of each engine"]
    assert [row[:2] for row in energies[1:]] == [["1 a", "n/a"], ["2 b", "2.5"]]


def with_layers(name: str, layers: tuple[LayerTime, ...], note: str) -> EngineResult:
    return dataclasses.replace(fakes.engine(name, 1.0), layers=LayerProfile(layers, note))


def test_shares_of_layers_add_up_and_the_small_ones_are_one_row() -> None:
    many = [LayerTime(f"conv<{n}>", "Conv", 2.0) for n in range(14)]
    layers = (*many, LayerTime("up", "DepthToSpace", 12.0))
    page = parsed(fakes.report(with_layers("a", layers, "as reported")))
    assert "Conv 70%, DepthToSpace 30%" in page.section("layers")
    rows = page.tables["Layers of a"][1:]
    assert rows[0][:4] == ["up", "DepthToSpace", "12.00", "30.0%"]
    assert rows[1][0] == "conv<0>"
    assert rows[-1][0] == "5 others"
    assert sum(float(row[3].rstrip("%")) for row in rows) == pytest.approx(100.0)


def test_the_first_profile_with_layers_is_open() -> None:
    layers = (LayerTime("conv", "Conv", 2.0),)
    engines = [with_layers("a", (), "none"), with_layers("b", layers, "b"), with_layers("c", layers, "c")]
    details = [given for tag, given in parsed(fakes.report(*engines)).attributes if tag == "details"]
    assert ["open" in given for given in details] == [True, False]


def test_an_engine_without_layers_says_why() -> None:
    assert "unavailable: it is <secret>" in parsed(
        fakes.report(with_layers("a", (), "unavailable: it is <secret>"))
    ).section("layers")
    assert parsed(fakes.report()).section("layers") == ""


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(scheme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", (TEMPLATES / "style.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[0]))
    if scheme == "dark":
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[1]))
    for text in ("ink", "soft", "good", "bad", "e0"):
        for ground in ("paper", "card"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["ink"], colours["warn-paper"]) >= 4.5
    assert contrast(colours["soft"], colours["band"]) >= 4.5
    for number in range(8):  # figures on the numbered chips
        assert contrast(colours["card"], colours[f"e{number}"]) >= 4.5, number


def test_throughput_accuracy_and_comparisons_are_shown() -> None:
    engines = [fakes.engine("full<b>.onnx", 100.0, 30.1), fakes.engine("cut.onnx", 50.0, 30.0)]
    measured = [dataclasses.replace(one, measurement=fakes.measurement(one.latency)) for one in engines]
    page = parsed(dataclasses.replace(fakes.report(*measured), comparisons=comparisons(measured)))
    (row,) = (row for row in page.tables["Throughput and accuracy"] if row[0] == "2 full<b>.onnx")
    assert row[6] == "60.0 dB"
    sentence = "cut.onnx against full<b>.onnx: 2.000x as fast (2.000 to 2.000), significantly different."
    assert sentence in page.section("throughput")
    assert parsed(fakes.report(*engines)).section("throughput") == ""


def test_the_throughput_on_the_cards_is_of_a_stream_where_one_was_measured() -> None:
    engines = [fakes.engine("slow", 100.0), fakes.engine("fast", 50.0)]
    assert cards(fakes.report(*engines))[1] == ("Images per second, one at a time", "20.0 /s", "fast")
    measured = [dataclasses.replace(one, measurement=fakes.measurement(one.latency)) for one in engines]
    stream = dataclasses.replace(measured[0].measurement.throughput, images_per_second=111.4)  # type: ignore[union-attr]
    wide = dataclasses.replace(measured[0].measurement, throughput=stream)  # type: ignore[type-var]
    report = fakes.report(dataclasses.replace(measured[0], measurement=wide), measured[1])
    assert cards(report)[1] == ("Throughput of a stream", "111.4 /s", "slow")
    shown = parsed(report).text
    assert "Throughput of a stream 111.4 /s slow" in shown
    assert "one at a time 20.0" not in shown


def figures(report: Report) -> list[list[str]]:
    return parsed(report).tables["All figures"]


def test_a_share_of_several_images_claims_no_lowest_median() -> None:
    made = quiet(timed_otherwise("theirs", 1.0), steady("ours", 10.0))
    headings, ours, theirs, _ = figures(made)
    assert ours[0].startswith("1 ours")
    assert theirs[0].startswith("2 theirs")
    assert theirs[0].endswith("* a run is 2 images in flight, its time divided by <2>")
    median = headings.index("median ms")
    assert ours[median].split(" ")[0] == "10.0"
    assert theirs[median].split(" ")[0] == "1.0*"
    assert "An engine with * is timed in another way" in parsed(made).section("figures")
    assert "*" not in parsed(quiet(steady("ours", 10.0))).section("figures")
    terminal = report_table(made)
    assert terminal.index("ours") < terminal.index("theirs")
    assert "1.0*" in terminal
    assert "* timed in another way: its median does not compare" in terminal


def test_the_page_says_why_there_is_no_interval_below_the_median() -> None:
    bare = parsed(fakes.report(fakes.paced("a", [10.0]), fakes.paced("b", [20.0]))).section("figures")
    assert bare.count("No confidence interval: 1 round says too little: 6 are needed.") == 1
    assert "stands below it" not in bare
    report = fakes.report(fakes.paced("a", [10.0] * 8))
    assert "The 95 % confidence interval of the median stands below it." in parsed(report).section("figures")
    assert "No confidence interval" not in parsed(report).section("figures")
    assert figures(report)[1][1] == "10.0 10.0 to 10.0"


def measured_row(made: Measurement) -> tuple[list[str], str]:
    """Return the row of an engine on the page, and everything that the terminal shows."""
    report = fakes.report(dataclasses.replace(fakes.engine("a", 10.0), measurement=made))
    return parsed(report).tables["Throughput and accuracy"][1], report_table(report)


@pytest.mark.parametrize(
    ("interval", "share", "words"),
    [
        ((0.12, 0.274), "19%", "12 to 27%"),
        ((-0.02, 0.41), "-2 to 41%", "not significantly different from 0"),
        (None, "19%", "too few rounds for an interval"),
    ],
)
def test_the_share_of_the_host_comes_with_its_interval(interval: Interval | None, share: str, words: str) -> None:
    made = fakes.measurement(fakes.engine("a", 10.0).latency)
    network = dataclasses.replace(made.engine_only, host_share=0.19, host_share_interval=interval)
    row, terminal = measured_row(dataclasses.replace(made, engine_only=network))
    assert row[2] == f"{share} {words}"
    assert f"host share {share} ({words})" in terminal


def test_an_engine_of_too_few_rounds_is_not_called_stable() -> None:
    row, _ = measured_row(fakes.measurement(latency.summarise([[10.0, 10.1]])))
    assert row[5].startswith("unknown drift: that takes 3 rounds at least")


def test_another_program_is_no_headline_and_a_share_of_many_no_point() -> None:
    ours = fakes.engine("ours.onnx", 100.0, 30.1)
    stability = fakes.measurement(ours.latency).stability
    program = ProgramResult("openvino", "throughput", "ours.onnx", {}, "a share of many", 60.4, 1, stability)
    theirs = dataclasses.replace(fakes.engine("theirs", 50.0, 30.1), program=program)
    report = fakes.report(ours, theirs)
    assert {engine for _, _, engine in cards(report)} == {"ours.onnx"}
    page = parsed(report)
    assert "theirs" not in page.section("speed-x4")
    assert "theirs" in page.section("figures")


def test_every_section_is_in_the_contents_and_the_other_way_round(page: str) -> None:
    elements = ParsedPage(page).attributes
    links = [given["href"] for tag, given in elements if tag == "a"]
    assert links == [f"#{given['id']}" for tag, given in elements if tag == "section"]
