import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import OutputError, UsageError
from drc_deploy.images.formats import Saving, check_output, check_quality, output_notes, saving_of, writing_bytes
from drc_deploy.images.metadata import Metadata
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.reading import read_image
from drc_deploy.images.strips import dithered, stored_strips
from drc_deploy.images.writing import write_image


def noise(*shape: int, bits: int = 8) -> NDArray[Any]:
    return np.random.default_rng(3).integers(0, 2**bits, shape).astype(f"uint{bits}")


@pytest.mark.parametrize("level", [0, 1, 128, 256, 257, 30000, 65279, 65534, 65535])
def test_dither_keeps_the_mean_of_a_level_and_uses_its_two_neighbours(level: int) -> None:
    rows = dithered(np.full((32, 48, 3), level, np.uint16), 5)
    assert abs(rows.mean() - level / 257) <= 1 / 256
    assert {int(value) for value in np.unique(rows)} <= {level // 257, -(-level // 257)}


def test_dither_shows_a_ramp_that_rounding_would_make_bands_of() -> None:
    ramp = np.tile(np.linspace(20000, 20514, 512).astype(np.uint16), (64, 1))[:, :, None]
    smooth = dithered(ramp, 0).astype(float).reshape(4, 16, 32, 16).mean(axis=(1, 3))
    assert np.abs(smooth - ramp.reshape(4, 16, 32, 16).mean(axis=(1, 3)) / 257).max() < 0.05


@given(cuts=st.lists(st.integers(0, 70), max_size=4), channels=st.integers(1, 4), background=st.booleans())
def test_strips_of_any_height_make_the_same_file(cuts: list[int], channels: int, background: bool) -> None:
    image = noise(70, 33, channels, bits=16)
    colour = (10, 20, 30) if background else None
    flat = 3 if background and channels in (2, 4) else channels
    layout, stored = Layout.of(image), Layout(70, 33, flat, 8)
    edges = [0, *sorted(cuts), 70]
    strips = [image[start:end] for start, end in itertools.pairwise(edges)]
    cut = np.concatenate(list(stored_strips(strips, layout, stored, colour)))
    whole = np.concatenate(list(stored_strips([image], layout, stored, colour)))
    assert cut.shape == (70, 33, flat)
    assert np.array_equal(cut, whole)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_lets_the_background_through_in_its_share(tmp_path: Path, bits: int, channels: int) -> None:
    image, saving = noise(40, 50, channels, bits=bits), Saving(background=(255, 128, 0))
    write_image(tmp_path / "x.png", [image[:7], image[7:]], Layout.of(image), saving=saving)
    full = 2**bits - 1
    alpha = image[:, :, -1:].astype(float) / full
    behind = np.array((255, 128, 0)) * (full / 255)
    expected = image[:, :, :-1] * alpha + behind * (1 - alpha)
    pixels = read_image(tmp_path / "x.png").pixels
    assert pixels.shape == (40, 50, 3)
    assert np.abs(pixels - expected).max() <= 0.5 + 1e-6


def test_grey_on_a_neutral_background_stays_grey(tmp_path: Path) -> None:
    image = noise(40, 50, 2)
    write_image(tmp_path / "x.jpg", [image], Layout.of(image), saving=Saving(background=(255, 255, 255)))
    with Image.open(tmp_path / "x.jpg") as written:
        assert written.mode == "L"


@pytest.mark.parametrize("name", ["x.jpg", "x.webp", "x.avif", "x.bmp"])
def test_16_bits_go_to_formats_of_8_with_a_note(tmp_path: Path, name: str) -> None:
    image = np.full((64, 64, 3), (30000, 40000, 50000), np.uint16)
    layout = Layout.of(image)
    (note,) = output_notes(tmp_path / name, layout, Metadata())
    assert "dithered" in note
    write_image(tmp_path / name, [image], layout)
    assert np.abs(read_image(tmp_path / name).pixels.mean(axis=(0, 1)) - image[0, 0] / 257).max() < 1.5


@pytest.mark.parametrize("name", ["x.jpg", "x.bmp"])
def test_transparency_is_refused_unless_there_is_a_background(name: str) -> None:
    with pytest.raises(OutputError, match="cannot hold transparency") as caught:
        check_output(Path(name), Layout(4, 4, 4, 8))
    assert "--background" in caught.value.hint
    check_output(Path(name), Layout(4, 4, 4, 8), saving=saving_of(None, "white"))


def test_a_lower_quality_makes_a_smaller_file(tmp_path: Path) -> None:
    image = noise(90, 90, 3)
    for suffix in ("jpg", "webp", "avif"):
        sizes = []
        for quality in (20, None, 100):
            path = tmp_path / f"{quality}.{suffix}"
            write_image(path, [image], Layout.of(image), saving=Saving(quality))
            sizes.append(path.stat().st_size)
        assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.bmp", None])
def test_a_quality_of_a_format_without_a_loss_is_refused(name: str | None) -> None:
    with pytest.raises(UsageError, match="is written without a loss") as caught:
        check_quality(name and Path(name), Saving(90))  # type: ignore[arg-type]
    assert caught.value.hint == "It is for AVIF, JPEG, WebP."


@pytest.mark.parametrize(
    ("text", "colour"), [("white", (255, 255, 255)), ("#ff8000", (255, 128, 0)), ("#F80", (255, 136, 0))]
)
def test_colours_are_names_or_hexadecimal(text: str, colour: tuple[int, int, int]) -> None:
    assert saving_of(None, text).background == colour


@pytest.mark.parametrize("text", ["", "whitish", "#12", "#ff800080"])
def test_what_is_no_opaque_colour_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a colour"):
        saving_of(None, text)


def test_memory_is_planned_for_what_is_written_and_not_for_what_is_read() -> None:
    deep, alpha = Layout(100, 100, 3, 16), Layout(100, 100, 4, 8)
    assert writing_bytes(Path("x.jpg"), deep) == writing_bytes(Path("x.jpg"), Layout(100, 100, 3, 8))
    saving = saving_of(None, "red")
    assert writing_bytes(Path("x.webp"), alpha, saving=saving) == writing_bytes(Path("x.webp"), Layout(100, 100, 3, 8))
