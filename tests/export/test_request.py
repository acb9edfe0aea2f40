import dataclasses
import importlib.util
from pathlib import Path

import pytest

from drc_deploy.errors import MissingDependencyError, UsageError
from drc_deploy.export.request import (
    PACKAGES,
    ExportRequest,
    InputSizes,
    parse_tile,
    require_packages,
    sizes_for,
    traced_sizes,
)


@pytest.mark.parametrize(
    ("text", "tile"),
    [
        (None, InputSizes(None, (128, 128))),
        ("dynamic", InputSizes(None, None)),
        ("96", InputSizes((96, 96), (96, 96))),
        ("90x160", InputSizes((90, 160), (90, 160))),
        ("1X2048", InputSizes((1, 2048), (1, 2048))),
    ],
)
def test_a_tile_is_read(text: str | None, tile: InputSizes) -> None:
    assert parse_tile(text) == tile


@pytest.mark.parametrize("text", ["0", "-8", "64x0", "2049", "9" * 5000, "big", "", "1.5", "64x", "64x64x3", "٣"])
def test_an_impossible_tile_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_tile(text)
    assert len(caught.value.message) < 100
    assert "1 to 2048" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "multiple_of", "minimum", "tile"),
    [
        ("dynamic", 8, 64, InputSizes(None, None)),
        ("96", 8, 64, InputSizes((96, 96), (96, 96))),
        (None, 8, 64, InputSizes(None, (128, 128))),
        (None, 24, 1, InputSizes(None, (144, 144))),
        (None, 1, 200, InputSizes(None, (200, 200))),
    ],
)
def test_a_tile_that_a_network_takes_is_kept_and_the_default_is_made_one(
    text: str | None, multiple_of: int, minimum: int, tile: InputSizes
) -> None:
    assert sizes_for(parse_tile(text), multiple_of, minimum) == tile


@pytest.mark.parametrize(
    ("text", "multiple_of", "sizes"),
    [
        (None, 2, InputSizes(None, (128, 128))),
        (None, 8, InputSizes((64, 64), (64, 64))),
        (None, 24, InputSizes((72, 72), (72, 72))),
        ("dynamic", 8, InputSizes(None, None)),
        ("96", 8, InputSizes((96, 96), (96, 96))),
    ],
)
def test_windows_are_traced_for_one_tile_unless_any_size_is_asked_for(
    text: str | None, multiple_of: int, sizes: InputSizes
) -> None:
    assert traced_sizes(parse_tile(text), multiple_of, 1) == sizes


@pytest.mark.parametrize(
    ("text", "multiple_of", "minimum", "sides", "better"),
    [
        ("100x96", 8, 1, "multiples of 8", "104x96"),
        ("16", 8, 20, "multiples of 8, at least 24", "24x24"),
        ("128x16", 1, 20, "at least 20", "128x20"),
    ],
)
def test_a_tile_that_a_network_does_not_take_is_refused_with_one_that_it_does(
    text: str, multiple_of: int, minimum: int, sides: str, better: str
) -> None:
    with pytest.raises(UsageError) as caught:
        sizes_for(parse_tile(text), multiple_of, minimum)
    assert caught.value.message.endswith(f"both sides must be {sides}.")
    assert caught.value.hint == f"Give --tile {better}."


@pytest.mark.parametrize("batch", [0, -1, 257])
def test_an_impossible_batch_is_refused(request_here: ExportRequest, batch: int) -> None:
    with pytest.raises(UsageError, match="batch"):
        dataclasses.replace(request_here, max_batch=batch)


@pytest.mark.parametrize("stem", ["", ".", "..", "a/b", "/tmp/x", "x.onnx", "x.plan"])
def test_a_name_with_folder_or_suffix_is_refused(request_here: ExportRequest, stem: str) -> None:
    with pytest.raises(UsageError, match="cannot name"):
        dataclasses.replace(request_here, stem=stem)


def test_images_to_calibrate_on_are_for_int8_alone(request_here: ExportRequest, tmp_path: Path) -> None:
    dataclasses.replace(request_here, precision="int8", calibrate=tmp_path)
    with pytest.raises(UsageError, match="--calibrate is for INT8"):
        dataclasses.replace(request_here, calibrate=tmp_path)


def test_exact_tiles_of_int8_are_refused(request_here: ExportRequest) -> None:
    with pytest.raises(UsageError, match="INT8 rounds too coarsely"):
        dataclasses.replace(request_here, precision="int8", exact=True)


@pytest.mark.parametrize("absent", PACKAGES)
def test_a_missing_package_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == absent else name)
    with pytest.raises(MissingDependencyError, match=f"needs {absent},") as caught:
        require_packages()
    assert "drc-deploy[export]" in caught.value.hint


def test_an_installation_with_all_packages_passes() -> None:
    require_packages()
