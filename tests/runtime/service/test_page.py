"""The page of a service in a real browser, against a service that really listens."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from drc_deploy.metrics import UInt8Image
from drc_deploy.runtime.service.service import Limits, Service
from tests.browser import assert_stopped, chromium, needs_chromium
from tests.runtime.networks import write_box, write_nearest
from tests.runtime.service.running import running

pytestmark = needs_chromium

DESKTOP, PHONE = (1200, 800), (360, 740)
TOKEN = "correct-horse"
HOSTILE = "<img src=x onerror=alert(1)>.png"
LONG = "a_name_that_has_no_end_" * 8 + ".png"
NOISE = np.random.default_rng(0)

Served = tuple[Service, httpx.Client]
Visit = Callable[..., Page]


def encoded(suffix: str, image: Any) -> bytes:
    """Return an image file."""
    return bytes(cv2.imencode(suffix, image)[1])


def white(height: int = 30, width: int = 40) -> bytes:
    """Return a PNG."""
    return encoded(".png", np.full((height, width, 3), 255, np.uint8))


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A network that repeats pixels four times, and one for 2 whose results are black."""
    folder = tmp_path_factory.mktemp("engines")
    write_nearest(folder / "nearest.onnx")
    write_nearest(folder / "nearest.float.onnx", io_dtype="float32")
    write_box(folder / "black.onnx", value=0.0)
    return [folder / "nearest.onnx", folder / "black.onnx"]


@pytest.fixture(scope="module")
def served(engines: list[Path]) -> Iterator[Served]:
    with running(engines) as both:
        yield both


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser: Browser, served: Served) -> Iterator[Visit]:
    """Open the page in a window of some size, and wait for its networks."""
    contexts = []

    def show(
        url: str | None = None, size: tuple[int, int] = DESKTOP, *, dark: bool = False, ready: bool = True
    ) -> Page:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            is_mobile=size == PHONE,
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        tab = context.new_page()
        tab.goto(url or str(served[1].base_url))
        if ready:
            expect(tab.locator("#form")).to_be_visible()
        return tab

    yield show
    for context in contexts:
        context.close()


def choose(tab: Page, data: bytes, name: str = "photo.png") -> None:
    """Hand a file to the page as its file dialog would."""
    tab.set_input_files("#file", {"name": name, "mimeType": "", "buffer": data})
    expect(tab.locator("#name")).to_have_text(name)
    expect(tab.locator("#go")).to_be_enabled()


def upscale(tab: Page) -> None:
    """Ask for the result and wait for it."""
    tab.click("#go")
    expect(tab.locator("#result")).to_be_visible()
    expect(tab.locator("#work")).to_be_hidden()


def transfer(tab: Page, files: dict[str, bytes]) -> Any:
    """Return what a browser hands over when files are dropped or pasted."""
    return tab.evaluate_handle(
        """files => {
          const data = new DataTransfer();
          for (const [name, text] of Object.entries(files))
            data.items.add(new File([Uint8Array.from(atob(text), one => one.charCodeAt())], name));
          return data;
        }""",
        {name: base64.b64encode(data).decode() for name, data in files.items()},
    )


def downloaded(tab: Page) -> tuple[str, bytes]:
    """Return the name and content of the file that is downloaded."""
    with tab.expect_download() as download:
        tab.click("#download")
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def screenshot(tab: Page) -> UInt8Image:
    """Return what is at the place of the image, as (H, W, 3) BGR."""
    image = cv2.imdecode(np.frombuffer(tab.locator("#frame").screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


@contextmanager
def held_back(service: Service) -> Iterator[None]:
    """Keep all threads of a service busy: requests wait meanwhile."""
    gate = threading.Event()
    for _ in range(next(iter(service.engines.values())).threads):
        next(iter(service._pools.values())).submit(gate.wait, 30)
    try:
        yield
    finally:
        gate.set()


def test_a_dropped_image_is_upscaled_and_downloaded_as_the_service_makes_it(visit: Visit, served: Served) -> None:
    asked: list[str] = []
    problems: list[str] = []
    tab = visit()
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.reload()
    expect(tab.locator("#form")).to_be_visible()
    image = encoded(".png", NOISE.integers(0, 256, (30, 40, 3), np.uint8))
    data = transfer(tab, {"a photo.of me.png": image, "second.png": white()})
    tab.dispatch_event("h1", "dragenter", {"dataTransfer": data})
    expect(tab.locator("#over")).to_be_visible()
    tab.dispatch_event("h1", "drop", {"dataTransfer": data})
    expect(tab.locator("#over")).to_be_hidden()
    expect(tab.locator("#about")).to_contain_text("40 \u00d7 30 pixels")
    expect(tab.locator("#about")).to_contain_text("Only the first of 2 files")
    upscale(tab)
    expect(tab.locator("#size")).to_have_text("160 \u00d7 120 pixels")
    assert downloaded(tab) == ("a photo.of me_x4.png", served[1].post("/v1/upscale", content=image).content)
    assert problems == []
    origin = str(served[1].base_url)
    assert all(url.removeprefix("blob:").startswith(f"{origin}/") for url in asked)


def test_an_image_is_pasted(visit: Visit) -> None:
    tab = visit()
    paste = "data => document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}))"
    tab.evaluate(paste, transfer(tab, {}))
    expect(tab.locator("#problem")).to_contain_text("the clipboard holds no image")
    tab.evaluate(paste, transfer(tab, {"image.png": white(20, 10)}))
    expect(tab.locator("#about")).to_contain_text("10 \u00d7 20 pixels")
    expect(tab.locator("#problem")).to_be_hidden()


def test_the_slider_shows_the_original_on_its_left_and_the_result_on_its_right(visit: Visit) -> None:
    tab = visit()
    choose(tab, white(300, 400))
    tab.select_option("#model", "black")
    upscale(tab)
    for zoom in ("#fit", "#full"):
        tab.click(zoom)
        tab.locator("#slider").focus()
        for key, left, right in (("Home", 0, 0), ("End", 255, 255), ("PageDown", 255, 0), ("ArrowLeft", 255, 0)):
            tab.keyboard.press(key)
            row = screenshot(tab)[100, :, 1]
            assert (row[len(row) // 5], row[-30]) == (left, right)
    line = tab.locator(".line").bounding_box()
    frame = tab.locator("#frame").bounding_box()
    assert line is not None
    assert frame is not None
    tab.mouse.move(line["x"] + 1, frame["y"] + 60)
    tab.mouse.down()
    tab.mouse.move(frame["x"] + frame["width"] / 2, frame["y"] + 60, steps=3)
    tab.mouse.up()
    row = screenshot(tab)[100, :, 1]
    assert abs((row > 128).sum() - len(row) / 2) < 0.02 * len(row)


def test_through_the_transparent_pixels_of_one_image_nothing_of_the_other_is_seen(visit: Visit) -> None:
    tab = visit()
    choose(tab, encoded(".png", np.full((300, 400, 4), (255, 255, 255, 128), np.uint8)))
    tab.select_option("#model", "black")
    upscale(tab)
    tab.locator("#slider").focus()
    tab.keyboard.press("Home")
    row = screenshot(tab)[100, 30:-30, 1]
    squares = np.array([228, 255])  # behind the image
    np.testing.assert_allclose([row.min(), row.max()], squares * (1 - 128 / 255), atol=2)


def test_at_100_percent_a_pixel_of_the_result_is_one_of_the_screen_and_the_image_moves(visit: Visit) -> None:
    tab = visit()
    pattern = NOISE.integers(0, 256, (300, 400, 3), np.uint8)
    choose(tab, encoded(".png", pattern))
    upscale(tab)
    tab.click("#full")
    tab.locator("#slider").focus()
    tab.keyboard.press("Home")
    whole = pattern.repeat(4, axis=0).repeat(4, axis=1)

    def matches() -> bool:
        left, top = tab.locator("#frame").evaluate("frame => [frame.scrollLeft, frame.scrollTop]")
        shown = screenshot(tab)[30:-60, 60:-60]
        there = whole[int(top) + 29 :, int(left) + 60 :]  # the screenshot may begin a row earlier
        high, wide = shown.shape[:2]
        return any(np.array_equal(shown, there[row : row + high, :wide]) for row in range(3))

    assert matches()
    frame = tab.locator("#frame").bounding_box()
    assert frame
    tab.mouse.move(frame["x"] + 300, frame["y"] + 200)
    tab.mouse.down()
    tab.mouse.move(frame["x"] + 200, frame["y"] + 120, steps=4)
    tab.mouse.up()
    tab.locator("#frame").focus()
    tab.keyboard.press("ArrowDown")
    tab.wait_for_timeout(300)  # browsers scroll smoothly
    moved = tab.locator("#frame").evaluate("frame => frame.scrollTop")
    assert moved > (1200 - frame["height"]) / 2 + 80
    assert matches()


def test_progress_is_shown_while_requests_wait_and_are_computed(visit: Visit, served: Served) -> None:
    service, client = served
    tab = visit()
    choose(tab, white())
    with held_back(service):
        other = threading.Thread(target=client.post, args=("/v1/upscale",), kwargs={"content": white()})
        other.start()
        while not service._watched:
            time.sleep(0.01)
        with tab.expect_request("**/v1/upscale*") as posted:
            tab.click("#go")
        expect(tab.locator("#status")).to_have_text("Waiting for 1 earlier image …")
        expect(tab.locator("#model")).to_be_disabled()
        expect(tab.locator("#cancel")).to_be_focused()
        assert not tab.locator("#progress").get_attribute("value")
        found = service.watched(posted.value.headers["x-request-id"])
        assert found
        watch = found[0]
        watch.stage, watch.tiles, watch.done = "compute", 1200, 300
        expect(tab.locator("#status")).to_have_text("Computing: 300 of 1,200 tiles")
        expect(tab.locator("#progress")).to_have_attribute("value", "0.25")
        expect(tab.locator("#spoken")).to_have_text("Computing")
        watch.stage, watch.tiles, watch.done = "queue", 0, 0
    expect(tab.locator("#result")).to_be_visible()
    expect(tab.locator("#download")).to_be_focused()
    expect(tab.locator("#spoken")).to_have_text("The result is ready.")
    other.join()


def test_a_cancelled_request_is_forgotten_by_the_service_too(visit: Visit, served: Served) -> None:
    service, _ = served
    tab = visit()
    choose(tab, white())
    with held_back(service):
        tab.click("#go")
        expect(tab.locator("#status")).to_have_text("Waiting …")
        tab.click("#cancel")
        expect(tab.locator("#work")).to_be_hidden()
        expect(tab.locator("#problem")).to_be_hidden()
        deadline = time.monotonic() + 5
        while service._watched and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not service._watched
    upscale(tab)


def test_what_is_no_image_is_answered_with_the_sentences_of_the_service(visit: Visit, served: Served) -> None:
    tab = visit()
    choose(tab, b"no image", HOSTILE)
    expect(tab.locator("#why")).to_contain_text("cannot show images of this kind")
    tab.click("#go")
    answer = served[1].post("/v1/upscale", content=b"no image").json()
    expect(tab.locator("#problem b")).to_have_text(answer["error"])
    expect(tab.locator("#problem span")).to_have_text(answer["hint"])
    assert tab.locator("[onerror]").count() == 0
    choose(tab, white())
    expect(tab.locator("#problem")).to_be_hidden()
    upscale(tab)


def test_a_busy_service_says_when_to_come_back(visit: Visit, engines: list[Path]) -> None:
    with running(engines, Limits(queue=-1000)) as (_, client):  # never a place
        tab = visit(str(client.base_url))
        choose(tab, white())
        tab.click("#go")
        expect(tab.locator("#problem")).to_contain_text("this service is busy.")
        expect(tab.locator("#problem")).to_contain_text("There should be a place in 1 s.")
    tab.click("#go")  # nobody listens any more
    expect(tab.locator("#problem")).to_contain_text("the service cannot be reached.")


def test_a_token_is_asked_for_where_one_is_needed(visit: Visit, engines: list[Path]) -> None:
    with running(engines, token=TOKEN) as (_, client):
        tab = visit(str(client.base_url), ready=False)
        expect(tab.locator("#token")).to_be_focused()
        expect(tab.locator("#problem")).to_be_hidden()
        expect(tab.locator("#form")).to_be_hidden()
        tab.fill("#token", "wrong")
        tab.keyboard.press("Enter")
        expect(tab.locator("#problem")).to_contain_text("the token is wrong.")
        tab.fill("#token", TOKEN)
        tab.keyboard.press("Enter")
        expect(tab.locator("#entry")).to_be_hidden()
        expect(tab.locator("#problem")).to_be_hidden()
        tab.reload()
        choose(tab, white())
        upscale(tab)
        assert visit(str(client.base_url), ready=False).locator("#form").is_hidden()  # of another visitor


@pytest.mark.parametrize(
    ("kind", "side", "name"),
    [("own", 0, "photo_x4"), ("scale", 0, "photo_x2"), ("max_side", 100, "photo_max100"), ("width", 77, "photo_w77")],
)
def test_the_size_that_is_announced_is_that_of_the_result(visit: Visit, kind: str, side: int, name: str) -> None:
    tab = visit()
    for height, width in ((31, 47), (90, 20)):
        choose(tab, white(height, width))
        tab.select_option("#kind", kind)
        if side:
            tab.fill("#side", str(side))
        announced = tab.locator("#plan").inner_text()
        upscale(tab)
        assert announced == f"Result: {tab.locator('#size').inner_text()}."
        assert downloaded(tab)[0] == f"{name}.png"


def test_more_than_the_network_makes_is_not_asked_for(visit: Visit) -> None:
    tab = visit()
    choose(tab, white(30, 40))
    tab.select_option("#kind", "width")
    tab.fill("#side", "161")
    tab.on("request", lambda request: pytest.fail(request.url))
    tab.click("#go")
    expect(tab.locator("#side")).to_be_focused()
    assert tab.locator("#side").evaluate("field => field.validity.rangeOverflow")
    expect(tab.locator("#plan")).to_have_text("")


def test_formats_qualities_and_notes(visit: Visit, served: Served) -> None:
    tab = visit()
    image = encoded(".png", NOISE.integers(0, 65536, (30, 40, 3), np.uint16))
    choose(tab, image, "deep.png")
    tab.click("summary")
    expect(tab.locator("#quality")).to_be_hidden()
    tab.select_option("#format", "webp")
    tab.fill("#quality", "50")
    upscale(tab)
    answer = served[1].post("/v1/upscale?format=webp&quality=50", content=image)
    assert downloaded(tab) == ("deep_x4.webp", answer.content)
    assert tab.locator("#notes li").all_text_contents() == json.loads(answer.headers["x-notes"]) != []


def test_what_the_browser_cannot_show_is_computed_and_downloaded(visit: Visit) -> None:
    tab = visit()
    choose(tab, encoded(".tiff", np.full((30, 40, 3), 255, np.uint8)), "scan.tiff")
    expect(tab.locator("#why")).to_contain_text("The service may read it")
    upscale(tab)
    expect(tab.locator("#after")).to_be_visible()
    expect(tab.locator("#slider")).to_be_hidden()
    tab.click("summary")
    tab.select_option("#format", "tiff")
    upscale(tab)
    expect(tab.locator("#why")).to_contain_text("Download the result to see it.")
    name, data = downloaded(tab)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert name == "scan_x4.tiff"
    assert image is not None
    assert image.shape == (120, 160, 3)


def test_a_very_large_result_is_shown_on_demand(visit: Visit) -> None:
    tab = visit()
    choose(tab, white())
    tab.route("**/v1/upscale*", lambda route: route.fulfill(headers={"X-Size": "9000x9000"}, body=white()))
    upscale(tab)
    expect(tab.locator("#why")).to_contain_text("81 megapixels. Showing it takes 324 MB")
    tab.click("#show")
    expect(tab.locator("#slider")).to_be_visible()


def test_urls_of_earlier_images_and_results_are_given_back(visit: Visit) -> None:
    tab = visit()
    tab.add_init_script(
        """window.live = 0;
        const {createObjectURL, revokeObjectURL} = URL;
        URL.createObjectURL = one => (window.live += 1, createObjectURL.call(URL, one));
        URL.revokeObjectURL = one => (window.live -= 1, revokeObjectURL.call(URL, one));"""
    )
    tab.reload()
    expect(tab.locator("#form")).to_be_visible()
    for name in ("one.png", "two.png", "three.png"):
        choose(tab, white(), name)
        upscale(tab)
        upscale(tab)
    assert tab.evaluate("window.live") == 2


def test_the_policy_stops_what_the_page_does_not_need(visit: Visit) -> None:
    tab = visit()
    assert_stopped(tab, "img-src blob: data:", "script-src 'sha256-", "connect-src 'self'")


@pytest.mark.parametrize("size", [PHONE, (320, 600), DESKTOP])
def test_the_page_does_not_scroll_sideways(visit: Visit, size: tuple[int, int]) -> None:
    tab = visit(size=size)

    def fits() -> bool:
        return bool(tab.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    assert fits()
    choose(tab, white(300, 900), LONG)
    tab.click("summary")
    tab.select_option("#format", "jpg")
    assert fits()
    upscale(tab)
    assert fits()
    tab.click("#full")
    assert fits()
    choose(tab, b"no image", LONG)
    tab.click("#go")
    expect(tab.locator("#problem")).to_be_visible()
    assert fits()


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_are_both_there(visit: Visit, dark: bool) -> None:
    image = cv2.imdecode(np.frombuffer(visit(dark=dark).screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    paper = int(image[5, 5])
    assert (paper < 60) is dark
    assert abs(image.astype(int) - paper).max() > 150  # something is written there


def test_every_control_is_named_and_reached_by_the_keyboard(visit: Visit) -> None:
    tab = visit()
    choose(tab, white(300, 400))
    tab.click("summary")
    tab.select_option("#format", "jpg")
    tab.select_option("#kind", "width")
    tab.fill("#side", "1000")
    upscale(tab)
    tab.click("#full")
    tree = tab.context.new_cdp_session(tab).send("Accessibility.getFullAXTree")["nodes"]
    named = {"slider", "combobox", "link", "region", "image", "button", "spinbutton"}
    nodes = [(node["role"]["value"], node["name"]["value"].strip()) for node in tree if node["role"]["value"] in named]
    assert named <= {role for role, _ in nodes}
    assert [role for role, name in nodes if not name] == []
    reached = []
    tab.evaluate("document.activeElement.blur()")
    for _ in range(20):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.id"))
    assert {"slider", "frame", "fit", "full", "another", "download", "model", "kind", "side", "go"} <= set(reached)
