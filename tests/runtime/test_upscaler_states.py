"""What a Python program may do wrong with an upscaler: each is one sentence, and nothing is opened again unasked."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drc_deploy.errors import ImageError, UsageError
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.runtime.tiling.memory_plan import Images
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.networks import nearest, write_nearest

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
HOW: dict[str, Any] = {"tile": 16, "overlap": 0, "threads": 2}


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    write_nearest(tmp_path / "n.onnx")
    write_nearest(tmp_path / "n.float.onnx", io_dtype="float32")
    return tmp_path / "n.onnx"


USES: list[Callable[[Upscaler], object]] = [
    lambda upscaler: upscaler(IMAGE[:9, :9]),  # one tile
    lambda upscaler: upscaler(IMAGE),
    lambda upscaler: upscaler(IMAGE.astype(np.uint16)),
    lambda upscaler: upscaler.strips(IMAGE),
    lambda upscaler: upscaler.task(IMAGE),
    lambda upscaler: upscaler.fit(Images(40, 50, np.uint16)),
    lambda upscaler: upscaler.__enter__(),
]


@pytest.mark.parametrize("use", USES)
def test_a_closed_upscaler_says_so(use: Callable[[Upscaler], object], engine: Path) -> None:
    upscaler = Upscaler.open(engine, **HOW)
    upscaler.close()
    upscaler.close()
    with pytest.raises(UsageError, match="is closed"):
        use(upscaler)


def test_the_inner_of_two_blocks_closes_for_both(engine: Path) -> None:
    with Upscaler.open(engine, **HOW) as upscaler:
        with upscaler:
            assert np.array_equal(upscaler(IMAGE), nearest(IMAGE, 4))
        with pytest.raises(UsageError, match="is closed"):
            upscaler(IMAGE)


@pytest.mark.parametrize("taken", [0, 1])
def test_strips_end_when_the_upscaler_is_closed(taken: int, engine: Path) -> None:
    with Upscaler.open(engine, **HOW) as upscaler:
        strips = upscaler.strips(IMAGE)
        for _ in range(taken):
            next(strips)
    with pytest.raises(UsageError, match="is closed"):
        next(strips)


def test_an_upscaler_from_before_a_fork_is_refused_in_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler, parent = Upscaler(FakeBackend(fake_info())), os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(UsageError, match="before a fork"):
        upscaler(IMAGE)


@pytest.mark.parametrize(
    ("image", "kind"),
    [(IMAGE.tolist(), "list"), (Image.fromarray(IMAGE), "Image"), (None, "NoneType"), (b"x", "bytes")],
)
def test_an_image_that_is_no_array_is_refused_with_a_hint(image: Any, kind: str) -> None:
    upscaler = Upscaler(FakeBackend(fake_info()))
    for use in (upscaler, upscaler.strips, upscaler.task):
        with pytest.raises(ImageError, match=f"of type {kind}, no array") as caught:
            use(image)
        assert "np.asarray" in caught.value.hint


@pytest.mark.parametrize(
    "option",
    [
        *({"threads": value} for value in (-1, 0, 1.5, "2")),
        *({"tile": value} for value in (-1, 0, 1.5, "32")),
        *({"overlap": value} for value in (-1, 1.5, "8")),
        *({"max_memory": value} for value in (-1, 0, 1.5, "1GiB")),
    ],
    ids=str,
)
def test_an_option_that_is_no_number_of_something_is_refused_by_its_name(option: dict[str, Any], engine: Path) -> None:
    ((name, value),) = option.items()
    with pytest.raises(UsageError, match=f"{name} is {value!r}: it takes a whole number of at least"):
        Upscaler.open(engine, **option)


def test_numbers_of_numpy_are_whole_numbers(engine: Path) -> None:
    with Upscaler.open(engine, tile=np.int64(16), overlap=np.uint8(0), threads=np.int32(2)) as upscaler:
        assert np.array_equal(upscaler(IMAGE), nearest(IMAGE, 4))
    with pytest.raises(UsageError, match="threads is 0"):
        open_backend(engine, threads=0)
