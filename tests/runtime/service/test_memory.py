"""A request that has ended holds no image, without a garbage collector that would find it later."""

import gc
import io
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from drc_deploy.errors import ImageError
from drc_deploy.images.reading import read_image
from drc_deploy.images.writing import write_image
from drc_deploy.runtime.service import work
from drc_deploy.runtime.service.service import Limits, Service
from tests.patience import PATIENCE_S
from tests.runtime.networks import write_nearest
from tests.runtime.service.running import running

REQUESTS = 4


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """The decoded images of all requests."""
    seen: list[weakref.ref[Any]] = []

    def tracked(path: Path) -> Any:
        picture = read_image(path)
        seen.append(weakref.ref(picture.pixels))
        return picture

    monkeypatch.setattr(work, "read_image", tracked)
    return seen


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def photograph(side: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def wait_until_left(service: Service) -> None:
    end = time.monotonic() + PATIENCE_S
    while service.under_way and time.monotonic() < end:
        time.sleep(0.01)
    assert not service.under_way


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", ["made", "too late", "fails", "gone"])
def test_images_go_with_their_requests(
    kind: str, images: list[weakref.ref[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nearest(tmp_path / "n.onnx")
    limits = Limits(seconds=2) if kind == "too late" else Limits()

    def write(*arguments: Any, **named: Any) -> None:
        if kind == "fails":
            raise ImageError("this is wrong.", "Do that.")
        while kind in ("too late", "gone"):
            named["check"]()
            time.sleep(0.01)
        write_image(*arguments, **named)

    monkeypatch.setattr(work, "write_image", write)
    with running([tmp_path / "n.onnx"], limits) as (service, client):
        for _ in range(REQUESTS):
            try:
                answer = client.post("/v1/upscale", content=photograph(64), timeout=2 if kind == "gone" else 60)
            except httpx.TimeoutException:
                assert kind == "gone"
            else:
                assert answer.status_code == {"made": 200, "too late": 504, "fails": 400}[kind]
            wait_until_left(service)
        assert len(images) == REQUESTS
        time.sleep(0.1)
        assert sum(image() is not None for image in images) <= 1  # a thread may still hold the last
