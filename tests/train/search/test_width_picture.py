"""The picture shows the widths: as many columns of ink as layers, as high as they are wide."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.search.width_picture import KEPT, draw_widths
from drc_deploy.widths import WidthsFile


def content(name: str, kept: float, candidates: int = 0) -> WidthsFile:
    layers = build_network(ModelSpec(name, 4)).prunable_layers
    full = tuple(layer.full_width for layer in layers)
    return WidthsFile(
        name,
        4,
        0.3,
        tuple(layer.name for layer in layers),
        tuple(int(kept * c) for c in full),
        "test",
        full_widths=full,
        candidates=tuple(tuple(range(4, 4 + candidates)) for _ in full) if candidates else (),
        probabilities=tuple((1 / candidates,) * candidates for _ in full) if candidates else (),
    )


def ink(path: Path) -> int:
    colour = [int(KEPT[i : i + 2], 16) for i in (1, 3, 5)]
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return int((np.abs(pixels - colour).sum(axis=2) < 30).sum())


@pytest.mark.parametrize("name", ["drn_xs", "drn_s"])
def test_bars_are_as_high_as_layers_are_wide(tmp_path: Path, name: str) -> None:
    draw_widths(content(name, 0.5), tmp_path / "half.png")
    draw_widths(content(name, 1.0), tmp_path / "full.png")
    assert ink(tmp_path / "half.png") / ink(tmp_path / "full.png") == pytest.approx(0.5, abs=0.04)


def test_the_softmax_has_a_place_of_its_own(tmp_path: Path) -> None:
    draw_widths(content("drn_xs", 0.5, candidates=6), tmp_path / "a.png")
    draw_widths(content("drn_xs", 0.5), tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as with_softmax, Image.open(tmp_path / "b.png") as without:
        assert with_softmax.height == 2 * without.height
