"""The report page in a real browser: what it shows, what it asks for, and what its sliders do."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from drc_deploy.bench.measure.layer_times import LayerProfile, LayerTime
from drc_deploy.bench.report.records import CropStrip, CropVersion, EngineResult, NotMeasured, Report
from drc_deploy.bench.show.page import write_page
from tests.bench import fakes
from tests.bench.show.browser import Browser, find_chromium

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

PHONE_PX, DESKTOP_PX = 390, 1200
SPACED = "two  spaces.onnx"
LONG = "a_network_whose_name_has_no_end_" * 4 + ".onnx"
HOSTILE = "</script><script>alert(1)</script><img src=https://example.org/x.png onerror=alert(2)>\"'"


def with_layers(engine: EngineResult) -> EngineResult:
    layers = tuple(LayerTime(f"/body/body.{n}/{HOSTILE}/Conv_nchwc", "Conv", 1.0 + n) for n in range(30))
    return dataclasses.replace(engine, layers=LayerProfile(layers, "told by a library"))


def strip(folder: Path, engines: list[EngineResult], scale: int) -> CropStrip:
    """Write a crop of one grey for each version."""
    labels = ["LR", "bicubic", *(engine.name for engine in engines if engine.engine.scale == scale), "HR"]
    tiles = []
    for grey, label in enumerate(labels):
        side = 24 if label == "LR" else 96
        file = f"crops/x{scale}_{grey}.png"
        assert cv2.imwrite(str(folder / file), np.full((side, side, 3), 20 * grey, np.uint8))
        tiles.append(CropVersion(label, file, None if label in ("LR", "HR") else 30.0 + grey))
    return CropStrip("Furthest from the original", HOSTILE, scale, (0, 0, 96, 96), tuple(tiles))


def make_report(folder: Path, names: list[str]) -> Report:
    """Return a report with everything that can be in one; every fourth engine is of scale 8."""
    engines = [
        with_layers(fakes.engine(name, 100.0 / (n + 1), 30.0 + 0.1 * (n % 3), scale=8 if n % 4 == 3 else 4))
        for n, name in enumerate(names)
    ]
    (folder / "crops").mkdir()
    strips = tuple(strip(folder, engines, scale) for scale in sorted({one.engine.scale for one in engines}))
    told = f"{LONG} is faster than {HOSTILE}."
    left_out = (NotMeasured(LONG, "failed", told, told),)
    report = dataclasses.replace(
        fakes.report(*engines), crops=strips, summary=told, warnings=(told,), not_measured=left_out
    )
    return fakes.with_telemetry(report)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM
    with Browser(CHROMIUM, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    names = ["full.onnx", SPACED, LONG, HOSTILE, *(f"engine_{n}.onnx" for n in range(5))]
    return write_page(make_report(folder, names), folder)


@pytest.fixture(scope="module")
def small_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report without any result."""
    folder = tmp_path_factory.mktemp("small")
    return write_page(fakes.report(), folder)


@pytest.mark.parametrize("width", [PHONE_PX, DESKTOP_PX])
def test_nothing_fails_and_nothing_is_asked_of_a_network(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert browser.told("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled") == []
    asked = [event["request"]["url"] for event in browser.told("Network.requestWillBeSent")]
    assert page.as_uri() in asked
    assert [url[:60] for url in asked if url != page.as_uri() and not url.startswith("data:")] == []
    assert browser.evaluate("document.querySelectorAll('[src^=http], [href^=http], link').length") == 0
    assert browser.evaluate("document.scripts.length") == 1


def test_the_policy_stops_what_the_page_does_not_need(browser: Browser, page: Path) -> None:
    browser.open(page, width=DESKTOP_PX)
    foreign = '<img src="http://127.0.0.1:9/x.png" onerror="window.ran = 1">'
    browser.evaluate(f"document.body.insertAdjacentHTML('beforeend', '{foreign}')")
    browser.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
    browser.evaluate(
        "fetch('http://127.0.0.1:9/').catch(() => 0), new Promise(done => setTimeout(done, 200))", wait=True
    )
    said = " ".join(event["entry"]["text"] for event in browser.told("Log.entryAdded"))
    for directive in ("img-src data:", "script-src 'sha256-", "default-src 'none'"):
        assert directive in said
    assert browser.evaluate("window.ran") is None


@pytest.mark.parametrize("width", [PHONE_PX, 320, DESKTOP_PX])
def test_the_page_does_not_scroll_sideways(browser: Browser, page: Path, small_page: Path, width: int) -> None:
    for shown in (page, small_page):
        browser.open(shown, width=width)
        browser.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate("document.body.scrollWidth") <= width


def test_phones_and_desktops_have_each_their_charts(browser: Browser, page: Path) -> None:
    shown = "[...document.querySelectorAll('svg.{}')].filter(drawing => drawing.checkVisibility()).length"
    for width, (there, away) in ((PHONE_PX, ("narrow", "wide")), (DESKTOP_PX, ("wide", "narrow"))):
        browser.open(page, width=width)
        assert browser.evaluate(shown.format(there)) == 5
        assert browser.evaluate(shown.format(away)) == 0


LINE_PX = """(() => {
  const stage = document.querySelector(".stage"), box = stage.getBoundingClientRect();
  const line = getComputedStyle(stage, "::before");
  return {left: box.left, top: box.top, width: box.width, height: box.height, line: parseFloat(line.left)};
})()"""


@pytest.mark.parametrize("width", [PHONE_PX, DESKTOP_PX])
def test_the_slider_follows_keys_and_pointer(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    browser.evaluate("document.querySelector('.stage').scrollIntoView({behavior: 'instant', block: 'center'})")
    browser.evaluate("document.querySelector('.stage input').focus()")
    start = browser.evaluate(LINE_PX)
    assert start["line"] == pytest.approx(start["width"] / 2, abs=1)
    browser.press("ArrowRight")
    assert browser.evaluate(LINE_PX)["line"] > start["line"]
    browser.press("Home")
    assert browser.evaluate(LINE_PX)["line"] == pytest.approx(0, abs=0.5)
    browser.press("End")
    assert browser.evaluate(LINE_PX)["line"] == pytest.approx(start["width"], abs=0.5)
    for part in (0.25, 0.7):
        browser.click(start["left"] + part * start["width"], start["top"] + start["height"] / 3)
        assert browser.evaluate(LINE_PX)["line"] == pytest.approx(part * start["width"], abs=0.02 * start["width"])


def test_the_slider_shows_one_version_on_each_side(browser: Browser, page: Path) -> None:
    browser.open(page, width=DESKTOP_PX)
    browser.evaluate("document.querySelector('.stage').scrollIntoView({behavior: 'instant', block: 'center'})")
    choose = "(() => {{ const [left, right] = document.querySelectorAll('.sides select'); left.value = 'LR';"
    choose += "right.value = '{}'; right.dispatchEvent(new Event('input')); return right.value; }})()"
    assert browser.evaluate(choose.format(SPACED)) == SPACED
    assert browser.evaluate(choose.format("HR")) == "HR"
    place = browser.evaluate(LINE_PX)
    image = browser.screenshot()
    middle = int(place["top"] + place["height"] / 4)
    left, right = (image[middle, int(place["left"] + part * place["width"])] for part in (0.25, 0.75))
    # LR is black; HR is the last of LR, bicubic, seven engines of scale 4 and HR, each 20 levels brighter.
    np.testing.assert_allclose(left, 0, atol=2)
    np.testing.assert_allclose(right, 180, atol=2)


def test_without_script_the_versions_stand_side_by_side(browser: Browser, page: Path) -> None:
    browser.open(page, width=DESKTOP_PX, scripts=False)
    tree = browser.ask("DOM.getDocument", depth=-1)["root"]["nodeId"]
    slider = browser.ask("DOM.querySelector", nodeId=tree, selector=".slider")["nodeId"]
    with pytest.raises(RuntimeError, match="box model"):
        browser.ask("DOM.getBoxModel", nodeId=slider)
    figures = browser.ask("DOM.querySelectorAll", nodeId=tree, selector=".crops img")["nodeIds"]
    widths = [browser.ask("DOM.getBoxModel", nodeId=figure)["model"]["width"] for figure in figures]
    assert len(widths) == 10 + 5
    assert min(widths) > 90


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_are_both_there(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, width=DESKTOP_PX, dark=dark)
    image = browser.screenshot()
    paper = image[5, 5].astype(float)
    assert bool(paper.mean() < 60) is dark
    assert abs(image.astype(float) - paper).max() > 150  # something is written there


def test_every_control_can_be_reached_and_is_named(browser: Browser, page: Path) -> None:
    browser.open(page, width=DESKTOP_PX)
    tree = browser.ask("Accessibility.getFullAXTree")["nodes"]
    named = {"slider", "combobox", "link", "region", "image", "navigation"}
    nodes = [(node["role"]["value"], node["name"]["value"].strip()) for node in tree if node["role"]["value"] in named]
    assert named <= {role for role, _ in nodes}
    assert [role for role, name in nodes if not name] == []
    wide = "[...document.querySelectorAll('.scroll')].every(part => part.tabIndex === 0)"
    assert browser.evaluate(wide)
    targets = "[...document.querySelectorAll('nav a')].every(link => document.querySelector(link.hash))"
    assert browser.evaluate(targets)
