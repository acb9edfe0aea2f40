"""The report page in a real browser: what it shows, what it asks for, and what its sliders do."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from drc_deploy.bench.measure.layer_times import LayerProfile, LayerTime
from drc_deploy.bench.report.records import CropStrip, CropVersion, EngineResult, NotMeasured, Report
from drc_deploy.bench.show.publish import write_files
from drc_deploy.metrics import UInt8Image
from tests.bench import fakes
from tests.browser import assert_stopped, chromium, needs_chromium

pytestmark = needs_chromium

PHONE_PX, DESKTOP_PX = 390, 1200
SPACED = "two  spaces.onnx"
LONG = "a_network_whose_name_has_no_end_" * 4 + ".onnx"
HOSTILE = "</script><script>alert(1)</script><img src=https://example.org/x.png onerror=alert(2)>\"'"


def with_layers(engine: EngineResult) -> EngineResult:
    layers = tuple(LayerTime(f"/body/body.{n}/{HOSTILE}/Conv_nchwc", "Conv", 1.0 + n) for n in range(30))
    return dataclasses.replace(engine, layers=LayerProfile(layers, "as a library reports"))


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
    words = f"{LONG} is faster than {HOSTILE}."
    left_out = (NotMeasured(LONG, "failed", words, words),)
    report = dataclasses.replace(
        fakes.report(*engines), crops=strips, summary=words, warnings=(words,), not_measured=left_out
    )
    return fakes.with_telemetry(report)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Show a file in a window of some width."""
    contexts = []

    def show(page: Path, *, width: int, dark: bool = False, scripts: bool = True) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            is_mobile=width < 600,
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
        )
        contexts.append(context)
        tab = context.new_page()
        tab.goto(page.as_uri())
        return tab

    yield show
    for context in contexts:
        context.close()


def screenshot(tab: Page) -> UInt8Image:
    """Return the window as (H, W, 3) BGR."""
    image = cv2.imdecode(np.frombuffer(tab.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    names = ["full.onnx", SPACED, LONG, HOSTILE, *(f"engine_{n}.onnx" for n in range(5))]
    return Path(write_files(make_report(folder, names), folder)["page"])


@pytest.fixture(scope="module")
def small_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report without any result."""
    folder = tmp_path_factory.mktemp("small")
    return Path(write_files(fakes.report(), folder)["page"])


@pytest.mark.parametrize("width", [PHONE_PX, DESKTOP_PX])
def test_nothing_fails_and_nothing_is_asked_of_a_network(browser: Browser, page: Path, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 800})
    asked: list[str] = []
    problems: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.goto(page.as_uri())
    assert problems == []
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert tab.locator("[src^=http], [href^=http], link").count() == 0
    assert tab.evaluate("document.scripts.length") == 1
    tab.close()


def test_the_policy_stops_what_the_page_does_not_need(visit: Visit, page: Path) -> None:
    tab = visit(page, width=DESKTOP_PX)
    assert_stopped(tab, "img-src data:", "script-src 'sha256-", "default-src 'none'")


@pytest.mark.parametrize("width", [PHONE_PX, 320, DESKTOP_PX])
def test_the_page_does_not_scroll_sideways(visit: Visit, page: Path, small_page: Path, width: int) -> None:
    for shown in (page, small_page):
        tab = visit(shown, width=width)
        tab.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("document.body.scrollWidth") <= width


def test_phones_and_desktops_have_each_their_charts(visit: Visit, page: Path) -> None:
    for width, (there, away) in ((PHONE_PX, ("narrow", "wide")), (DESKTOP_PX, ("wide", "narrow"))):
        tab = visit(page, width=width)
        assert tab.locator(f"svg.{there}:visible").count() == 5
        assert tab.locator(f"svg.{away}:visible").count() == 0


def stage_of(tab: Page) -> dict[str, float]:
    """Return the place of the first slider in the window, and the line within it."""
    place: Any = tab.locator(".stage").first.evaluate(
        """stage => {
          const box = stage.getBoundingClientRect(), line = getComputedStyle(stage, "::before");
          return {left: box.left, top: box.top, width: box.width, height: box.height, line: parseFloat(line.left)};
        }"""
    )
    return {name: float(value) for name, value in place.items()}


def to_the_slider(tab: Page) -> None:
    tab.locator(".stage").first.evaluate("stage => stage.scrollIntoView({behavior: 'instant', block: 'center'})")


@pytest.mark.parametrize("width", [PHONE_PX, DESKTOP_PX])
def test_the_slider_follows_keys_and_pointer(visit: Visit, page: Path, width: int) -> None:
    tab = visit(page, width=width)
    to_the_slider(tab)
    tab.locator(".stage input").first.focus()
    start = stage_of(tab)
    assert start["line"] == pytest.approx(start["width"] / 2, abs=1)
    for key, at_least, at_most in (
        ("ArrowRight", start["line"] + 0.1, start["width"]),
        ("Home", -0.5, 0.5),
        ("End", start["width"] - 0.5, start["width"] + 0.5),
    ):
        tab.keyboard.press(key)
        assert at_least <= stage_of(tab)["line"] <= at_most
    for part in (0.25, 0.7):
        tab.mouse.click(start["left"] + part * start["width"], start["top"] + start["height"] / 3)
        assert stage_of(tab)["line"] == pytest.approx(part * start["width"], abs=0.02 * start["width"])


def test_the_slider_shows_one_version_on_each_side(visit: Visit, page: Path) -> None:
    tab = visit(page, width=DESKTOP_PX)
    to_the_slider(tab)
    left, right = tab.locator(".sides select").first, tab.locator(".sides select").nth(1)
    left.select_option("LR")
    assert right.select_option(SPACED) == [SPACED]
    assert right.select_option("HR") == ["HR"]
    place, image = stage_of(tab), screenshot(tab)
    middle = int(place["top"] + place["height"] / 4)
    shown = [image[middle, int(place["left"] + part * place["width"])] for part in (0.25, 0.75)]
    # LR is black; HR is the last of LR, bicubic, seven engines of scale 4 and HR, each 20 levels brighter.
    np.testing.assert_allclose(shown[0], 0, atol=2)
    np.testing.assert_allclose(shown[1], 180, atol=2)


def test_without_script_the_versions_stand_side_by_side(visit: Visit, page: Path) -> None:
    tab = visit(page, width=DESKTOP_PX, scripts=False)
    assert tab.locator(".slider:visible").count() == 0
    boxes = [figure.bounding_box() for figure in tab.locator(".crops img").all()]
    assert len(boxes) == 10 + 5
    assert min(box["width"] if box else 0 for box in boxes) > 90


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_are_both_there(visit: Visit, page: Path, dark: bool) -> None:
    image = screenshot(visit(page, width=DESKTOP_PX, dark=dark))
    paper = image[5, 5].astype(float)
    assert bool(paper.mean() < 60) is dark
    assert abs(image.astype(float) - paper).max() > 150  # something is written there


def test_every_control_can_be_reached_and_is_named(visit: Visit, page: Path) -> None:
    tab = visit(page, width=DESKTOP_PX)
    tree = tab.context.new_cdp_session(tab).send("Accessibility.getFullAXTree")["nodes"]
    named = {"slider", "combobox", "link", "region", "image", "navigation"}
    nodes = [(node["role"]["value"], node["name"]["value"].strip()) for node in tree if node["role"]["value"] in named]
    assert named <= {role for role, _ in nodes}
    assert [role for role, name in nodes if not name] == []
    assert tab.evaluate("[...document.querySelectorAll('.scroll')].every(part => part.tabIndex === 0)")
    assert tab.evaluate("[...document.querySelectorAll('nav a')].every(link => document.querySelector(link.hash))")
