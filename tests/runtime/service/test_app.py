"""What a service answers, over a real connection."""

import errno
import gc
import hashlib
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.service.room import Room
from drc_deploy.runtime.service.service import Limits, Service
from tests.runtime.networks import nearest, write_nearest
from tests.runtime.service.running import running

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
Served = tuple[Service, httpx.Client]


def encoded(pixels: Any, kind: str = "PNG", **how: Any) -> bytes:
    """Encode an image."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **how)
    return stream.getvalue()


def pixels_of(response: httpx.Response) -> Any:
    """Decode a result."""
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)))


JPEG = cv2.imencode(".jpg", IMAGE)[1].tobytes()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "quick.onnx"
    write_nearest(path)
    write_nearest(path.with_name("quick.float.onnx"), io_dtype="float32")
    return path


@pytest.fixture(scope="module")
def served(engine: Path) -> Iterator[Served]:
    with running([engine], Limits(body_bytes=1 << 20)) as pair:
        yield pair


@pytest.mark.parametrize("how", ["body", "form"])
@pytest.mark.parametrize("shape", [(40, 50, 3), (40, 50), (40, 50, 4), (300, 280, 3)])
def test_an_image_gives_what_the_network_makes_of_it(how: str, shape: tuple[int, ...], served: Served) -> None:
    image = np.random.default_rng(1).integers(1, 256, shape, np.uint8)
    sent: dict[str, Any] = (
        {"content": encoded(image)} if how == "body" else {"files": {"image": ("x.png", encoded(image))}}
    )
    result = pixels_of(served[1].post("/v1/upscale", **sent))
    assert result.shape[:2] == (4 * shape[0], 4 * shape[1])
    if shape[2:] != (4,):
        assert np.array_equal(result, nearest(image, 4))


def test_sixteen_bits_stay(served: Served) -> None:
    image = np.random.default_rng(1).integers(0, 65536, (20, 30), np.uint16)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    assert np.array_equal(pixels_of(served[1].post("/v1/upscale", content=stream.getvalue())), nearest(image, 4))


@pytest.mark.parametrize(
    ("query", "kind", "size"),
    [
        ({"scale": 2, "format": "jpg"}, "JPEG", (100, 80)),
        ({"width": 75, "format": "webp", "quality": 50}, "WEBP", (75, 60)),
        ({"max_side": 20, "format": "tiff"}, "TIFF", (20, 16)),
        ({"fit": "60x300"}, "PNG", (60, 48)),
    ],
)
def test_size_and_format_are_those_asked_for(
    query: dict[str, str | int], kind: str, size: tuple[int, int], served: Served
) -> None:
    response = served[1].post("/v1/upscale", params=query, content=encoded(IMAGE))
    image = Image.open(io.BytesIO(response.content))
    assert (image.format, image.size) == (kind, size)
    assert response.headers["content-type"] == f"image/{kind.lower()}"
    assert response.headers["x-size"] == "{}x{}".format(*size)


BOMB = encoded(np.zeros((9000, 9000), bool))  # 81 million pixels in 10 KB
WRONG: list[tuple[int, dict[str, Any], bytes, str]] = [
    (400, {}, b"garbage", "the image is not an image"),
    (400, {}, b"", "the image is empty"),
    (400, {}, encoded(IMAGE, "JPEG2000"), "is a JPEG 2000, which is not taken here"),
    (400, {}, encoded(IMAGE, "JPEG2000", no_jp2=True), "is a JPEG 2000, which is not taken here"),
    (400, {}, encoded(IMAGE)[:-200], "image"),
    (400, {"scale": 5}, encoded(IMAGE), "enlarges by 4"),
    (400, {"width": 5000}, encoded(IMAGE), "100 times as large"),
    (400, {"quality": 5}, encoded(IMAGE), "quality"),
    (400, {"width": 5, "height": 5}, encoded(IMAGE), "both say"),
    (400, {"width": 5, "max_side": 5}, encoded(IMAGE), "width and max_side both say"),
    (400, {"scale": 5}, encoded(IMAGE), "and scale is 5"),
    (400, {}, JPEG[: len(JPEG) // 2], "is damaged"),
    (400, {"background": "no"}, encoded(IMAGE), "not a colour"),
    (400, {"format": "jpg"}, encoded(np.full((4, 4, 4), 7, np.uint8)), "transparen"),
    (404, {"model": "other"}, encoded(IMAGE), "no such network"),
    (413, {}, bytes(2 << 20), "larger than"),
    (422, {"quality": 101}, encoded(IMAGE), "quality"),
    (422, {"format": "exe"}, encoded(IMAGE), "format"),
    (422, {"fit": "1x"}, encoded(IMAGE), "fit"),
    (422, {"scale": "nan"}, encoded(IMAGE), "scale"),
    (422, {"sclae": 2}, encoded(IMAGE), "there is no parameter sclae"),
]


@pytest.mark.parametrize(("status", "query", "body", "words"), WRONG)
def test_what_is_wrong_is_said_in_two_sentences(
    status: int, query: dict[str, Any], body: bytes, words: str, served: Served
) -> None:
    response = served[1].post("/v1/upscale", params=query, content=body)
    answer = response.json()
    assert (response.status_code, set(answer)) == (status, {"error", "hint"})
    assert words in answer["error"]
    assert answer["hint"].endswith(".")
    assert "/tmp" not in response.text
    assert "drc-deploy-" not in response.text
    assert "--" not in response.text


@pytest.mark.parametrize(("kind", "hinted"), [("application/x-www-form-urlencoded", True), ("image/jpeg", False)])
def test_who_lets_curl_change_the_image_is_shown_how_to_send_it(kind: str, hinted: bool, served: Served) -> None:
    body = JPEG.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
    answer = served[1].post("/v1/upscale", content=body, headers={"content-type": kind})
    assert answer.status_code == 400
    assert ("--data-binary" in answer.json()["hint"]) == hinted


def test_what_is_not_taken_is_not_said_to_be(served: Served) -> None:
    unknown = served[1].post("/v1/upscale", content=b"some text").json()
    refused = served[1].post("/v1/upscale", content=encoded(IMAGE, "JPEG2000")).json()
    assert "JPEG 2000" in refused["error"]
    assert "AVIF, JPEG XL and HEIC can." in unknown["hint"]


def test_a_place_is_left_whatever_happens_while_an_answer_is_sought(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, client = served

    def fails(*_: object) -> bool:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("drc_deploy.runtime.service.app.was_changed_by_curl", fails)
    assert client.post("/v1/upscale", content=JPEG[: len(JPEG) // 2]).status_code >= 400
    wait_until(lambda: service.under_way == 0)


def test_an_image_that_is_large_when_it_is_unpacked_is_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    response = served[1].post("/v1/upscale", content=BOMB)
    assert response.status_code == 400
    assert "81000000 pixels" in response.json()["error"]
    assert response.json()["hint"] == "Cut the image into parts."


def test_forms_without_an_image_are_refused(served: Served) -> None:
    two = [("image", b"x"), ("image", b"y")]
    wrong: list[dict[str, Any]] = [{"files": {"other": b"x"}}, {"files": two}, {"data": {"image": "x"}}]
    for sent in wrong:
        headers = {} if "files" in sent else {"content-type": "multipart/form-data; boundary=x"}
        assert served[1].post("/v1/upscale", headers=headers, **sent).status_code == 400


def test_what_is_lost_is_said(served: Served) -> None:
    stream = io.BytesIO()
    frames = [Image.fromarray(IMAGE), Image.fromarray(255 - IMAGE)]
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    response = served[1].post("/v1/upscale", content=stream.getvalue())
    assert response.status_code == 200
    assert "first" in json.loads(response.headers["x-notes"])[0]
    assert "/tmp" not in response.headers["x-notes"]


def raw(service: httpx.Client, text: bytes, *, then_close: bool = False) -> bytes:
    """Send bytes, and return what comes back within two seconds."""
    address = service.base_url.host, service.base_url.port or 80
    with socket.create_connection(address) as connection:
        connection.settimeout(2)
        connection.sendall(text)
        if then_close:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while piece := connection.recv(1 << 16):
                received += piece
        except TimeoutError:
            pass
        return received


def test_bodies_that_lie_about_their_length_leave_nothing_behind(served: Served) -> None:
    service, client = served
    head = b"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    assert b"200" not in raw(client, head % 1000 + b"short", then_close=True)[:20]
    longer = raw(client, head % 7 + b"garbage and a second request")
    assert longer.startswith(b"HTTP/1.1 400")
    assert raw(client, b"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")[:12] in (
        b"HTTP/1.1 400",
        b"",
    )
    wait_until(lambda: service.measures.under_way._value.get() == 0)
    assert pixels_of(client.post("/v1/upscale", content=encoded(IMAGE))).shape == (160, 200, 3)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens in another thread."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


def test_a_body_that_trickles_is_given_up(engine: Path) -> None:
    with running([engine], Limits(seconds=0.5)) as (service, client):
        head = b"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc"
        assert raw(client, head).startswith(b"HTTP/1.1 408")
        wait_until(lambda: service.measures.under_way._value.get() == 0)


def test_the_token_is_asked_for_whatever_its_length(engine: Path) -> None:
    with running([engine], token="right") as (_, client):
        for wrong in ("", "Bearer wrong", "Bearer righ", "Bearer " + "x" * 9000, "Basic right"):
            sent = {"Authorization": wrong}
            response = client.post("/v1/upscale", headers=sent, content=encoded(IMAGE))
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            for address in ("/metrics", "/v1/models", "/v1/progress/x"):
                assert client.get(address, headers=sent).status_code == 401
        for address in ("/healthz", "/readyz", "/"):
            assert client.get(address).status_code == 200
        right = {"Authorization": "Bearer right"}
        assert pixels_of(client.post("/v1/upscale", headers=right, content=encoded(IMAGE))).shape == (160, 200, 3)


class Gate:
    """Holds the network of a service until it is opened."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.images = threading.Event(), 0
        backend = next(iter(service.engines.values()))._owner.backend
        stream = type(backend).stream

        def held(backend: Any, batches: Any) -> Any:
            self.images += 1
            self.opened.wait(30)
            return stream(backend, batches)

        monkeypatch.setattr(type(backend), "stream", held)


def test_who_comes_when_it_is_full_is_asked_to_come_back(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running([engine], Limits(queue=3)) as (service, client):
        gate, places = Gate(service, monkeypatch), service.engines["quick"].threads + 3
        with ThreadPoolExecutor(places) as pool:
            sent = [pool.submit(client.post, "/v1/upscale", content=encoded(IMAGE)) for _ in range(places)]
            wait_until(lambda: service.is_full(next(iter(service.engines.values()))))
            assert client.get("/readyz").status_code == 503
            response = client.post("/v1/upscale", content=encoded(IMAGE))
            assert response.status_code == 503
            assert 1 <= int(response.headers["retry-after"]) <= 120
            gate.opened.set()
            assert all(future.result().status_code == 200 for future in sent)
        assert client.get("/readyz").status_code == 200
        text = client.get("/metrics").text
        assert f'drc_deploy_requests_total{{status="200"}} {places}.0' in text
        assert 'drc_deploy_requests_total{status="503"} 1.0' in text
        assert f"drc_deploy_tiles_total {places}.0" in text
        assert f'drc_deploy_seconds_count{{stage="compute"}} {places}.0' in text


def test_a_caller_that_goes_away_frees_its_place(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running([engine]) as (service, client):
        gate = Gate(service, monkeypatch)
        with ThreadPoolExecutor(20) as pool:
            quick = httpx.Client(base_url=client.base_url, timeout=1)
            sent = [pool.submit(quick.post, "/v1/upscale", content=encoded(IMAGE)) for _ in range(20)]
            assert all(isinstance(future.exception(), httpx.ReadTimeout) for future in sent)
            quick.close()
        # Those that were not begun are gone at once; those in the network when it is done with their tile.
        wait_until(lambda: service.measures.waiting._value.get() == 0)
        gate.opened.set()
        wait_until(lambda: service.measures.under_way._value.get() == 0)
        assert gate.images < 20


def test_a_request_that_takes_too_long_is_stopped(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running([engine], Limits(seconds=0.5)) as (service, client):
        gate = Gate(service, monkeypatch)
        threading.Timer(1.0, gate.opened.set).start()
        response = client.post("/v1/upscale", content=encoded(IMAGE))
        assert response.status_code == 504
        assert "more than 0.5 s" in response.json()["error"]


def test_time_is_over_while_a_result_is_written_too(
    engine: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer does not wait for an encoder; its place and its files do."""
    written = threading.Event()

    def slow(path: Path, strips: Any, *_: object, **how: Any) -> None:
        list(strips)
        written.wait(30)
        how["check"]()

    with running([engine], Limits(seconds=0.5)) as (service, client):
        monkeypatch.setattr("drc_deploy.runtime.service.work.write_image", slow)
        assert client.post("/v1/upscale", content=encoded(IMAGE)).status_code == 504
        assert service.measures.under_way._value.get() == 1
        written.set()
        wait_until(lambda: service.measures.under_way._value.get() == 0)
    gc.collect()
    assert caplog.text == ""  # nor is what became of it left for the log


def test_an_image_whose_result_takes_too_much_memory_is_refused(engine: Path) -> None:
    with running([engine]) as (service, client):
        service._room = Room(8 << 20)
        image = encoded(np.zeros((700, 700, 3), np.uint8))
        response = client.post("/v1/upscale", params={"format": "jpg"}, content=image)
        assert response.status_code == 400
        assert "for all requests" in response.json()["error"]
        assert client.post("/v1/upscale", content=image).status_code == 200  # a PNG is not held whole


def test_requests_wait_for_memory_that_others_have() -> None:
    room, order = Room(100), list[str]()

    def take() -> None:
        with room.taken(60, lambda: None):
            order.append("second")

    waiting = threading.Thread(target=take)
    with room.taken(60, lambda: None):
        waiting.start()
        with room.taken(40, lambda: None):
            order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


def test_an_upload_that_breaks_off_or_a_full_disk_is_an_answer_and_counted(
    engine: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with running([engine]) as (service, client):
        head = b"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc"
        raw(client, head, then_close=True)
        wait_until(lambda: service.measures.under_way._value.get() == 0)
        monkeypatch.setattr("drc_deploy.runtime.service.app.save_body", full)
        response = client.post("/v1/upscale", content=encoded(IMAGE))
        assert (response.status_code, "No space left" in response.json()["error"]) == (507, True)
        assert 'drc_deploy_requests_total{status="507"} 1.0' in client.get("/metrics").text
    assert "Traceback" not in caplog.text


def test_progress_can_be_watched(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running([engine]) as (service, client):
        gate = Gate(service, monkeypatch)
        with ThreadPoolExecutor(1) as pool:
            headers = {"X-Request-Id": "mine"}
            sent = pool.submit(client.post, "/v1/upscale", headers=headers, content=encoded(nearest(IMAGE, 12)))
            wait_until(lambda: gate.images > 0)
            progress = client.get("/v1/progress/mine").json()
            assert progress["stage"] == "compute"
            assert (progress["done"], progress["earlier"]) == (0, 0)
            assert progress["tiles"] >= 4
            taken = client.post("/v1/upscale", headers=headers, content=encoded(IMAGE))
            assert taken.status_code == 503
            gate.opened.set()
            assert sent.result().status_code == 200
        wait_until(lambda: client.get("/v1/progress/mine").status_code == 404)


def test_a_network_that_fails_is_an_answer(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running([engine]) as (service, client):
        backend = type(next(iter(service.engines.values()))._owner.backend)

        def fail(*_: object) -> Any:
            raise ArtefactError("the GPU has fallen off the bus.", "Start the machine again.")

        with monkeypatch.context() as patched:
            patched.setattr(backend, "stream", fail)
            response = client.post("/v1/upscale", content=encoded(IMAGE))
        assert (response.status_code, response.json()["error"]) == (500, "the GPU has fallen off the bus.")
        assert pixels_of(client.post("/v1/upscale", content=encoded(IMAGE))).shape == (160, 200, 3)


def test_a_message_about_a_file_here_does_not_say_where_it_is(tmp_path: Path) -> None:
    write_nearest(tmp_path / "narrow.onnx")
    with running([tmp_path / "narrow.onnx"]) as (_, client):
        response = client.post("/v1/upscale", content=encoded(np.zeros((9, 9), np.uint16)))
        assert response.status_code == 500
        assert "narrow.onnx takes 8-bit samples" in response.json()["error"]
        assert str(tmp_path) not in response.text


def test_a_connection_that_comes_while_the_service_ends_is_closed(engine: Path) -> None:
    with running([engine]) as (service, client):
        service.ending = True  # the server closes connections once, and then waits for all
        with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=10) as caller:
            assert caller.recv(1) == b""


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz"])
def test_balancers_may_ask_for_the_head_only(path: str, served: Served) -> None:
    _, client = served
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_models_and_their_description(served: Served) -> None:
    (model,) = served[1].get("/v1/models").json()
    assert (model["name"], model["scale"], model["precision"]) == ("quick", 4, "fp32")
    schema = served[1].get("/openapi.json").json()
    described = {item["name"] for item in schema["paths"]["/v1/upscale"]["post"]["parameters"]}
    assert {"format", "scale", "width", "height", "max_side", "fit", "quality", "background", "model"} <= described
    assert "http://" not in (page := served[1].get("/docs").text)
    assert "https://" not in page  # nothing is loaded from elsewhere


def test_no_file_is_left(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    results = {
        hashlib.sha256(served[1].post("/v1/upscale", content=content).content).hexdigest()
        for content in (encoded(IMAGE), b"garbage", encoded(IMAGE))
    }
    assert len(results) == 2
    wait_until(lambda: not list(tmp_path.iterdir()))
