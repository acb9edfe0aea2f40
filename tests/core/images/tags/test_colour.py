import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from drc_deploy.errors import OutputError
from drc_deploy.images.formats import check_output
from drc_deploy.images.metadata import Metadata
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.reading import read_image
from drc_deploy.images.tags.colour import NoProfileError, profile_for, read_colour
from drc_deploy.images.tags.png_chunks import Chunk
from drc_deploy.images.writing import write_image
from tests.core.images.png_files import GREY, chunks_of, png_with


def gamma(value: int) -> Chunk:
    return Chunk(b"gAMA", struct.pack(">I", value))


def cicp(*numbers: int) -> Chunk:
    return Chunk(b"cICP", bytes(numbers))


LINEAR, PLAIN, SRGB = gamma(100000), gamma(45455), Chunk(b"sRGB", b"\0")
ADOBE = Chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000))
BT709 = Chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
PQ, HLG, P3 = cicp(9, 16, 0, 1), cicp(9, 18, 0, 1), cicp(12, 13, 0, 1)
LIGHT = Chunk(b"cLLI", bytes(8))


def kept(tmp_path: Path, source: Path, name: str) -> Path:
    """What ``upscale`` makes of a file, but for the network."""
    picture = read_image(source)
    layout = Layout.of(picture.pixels)
    write_image(tmp_path / name, [picture.pixels], layout, picture.metadata.for_size(layout.width, layout.height))
    return tmp_path / name


def shown(path: Path) -> NDArray[Any]:
    """The pixels of a file as sRGB, by its colour profile, computed by LittleCMS."""
    with Image.open(path) as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None
    return np.asarray(converted)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("chunks", [[LINEAR], [PLAIN, ADOBE], [SRGB, PLAIN, BT709], [P3], [PQ, LIGHT], [HLG]])
def test_a_png_hands_its_colours_to_a_png(tmp_path: Path, chunks: list[Chunk], bits: int) -> None:
    pixels = GREY if bits == 8 else np.full((4, 5), 30000, np.uint16)  # Pillow writes 16 bits only in grey
    result = kept(tmp_path, png_with(tmp_path / "in.png", chunks, pixels), "out.png")
    assert [one for one in chunks_of(result) if one[0] in dict(chunks)] == chunks


@pytest.mark.parametrize("name", ["out.jpg", "out.tif", "out.webp"])
def test_other_formats_get_a_profile_that_shows_the_same(tmp_path: Path, name: str) -> None:
    result = kept(tmp_path, png_with(tmp_path / "in.png", [LINEAR]), name)
    light = 128 / 255
    expected = 255 * (1.055 * light ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    assert np.abs(shown(result).astype(float) - expected).max() <= 2


@pytest.mark.parametrize("name", ["out.jpg", "out.tif"])
def test_grey_gets_a_grey_profile(tmp_path: Path, name: str) -> None:
    result = kept(tmp_path, png_with(tmp_path / "in.png", [LINEAR], GREY[:, :, 0]), name)
    with Image.open(result) as image:
        assert image.mode == "L"
        assert image.info["icc_profile"][16:20] == b"GRAY"
    assert np.abs(shown(result).astype(int) - 188).max() <= 2


@pytest.mark.parametrize(
    ("chunks", "colorants"),
    [
        # red, green and blue in XYZ under D50, as Adobe's and Apple's own profiles have them
        ([PLAIN, ADOBE], ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))),
        ([P3], ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))),
        ([LINEAR], ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))),
    ],
)
def test_primaries_become_those_of_published_profiles(chunks: list[Chunk], colorants: tuple[Any, ...]) -> None:
    content = profile_for(chunks, grey=False)
    assert content is not None
    profile = ImageCms.ImageCmsProfile(io.BytesIO(content)).profile
    found = (profile.red_colorant, profile.green_colorant, profile.blue_colorant)
    assert [xyz[0] for xyz in found if xyz] == [pytest.approx(xyz, abs=0.0005) for xyz in colorants]


@pytest.mark.parametrize("chunks", [[], [SRGB], [PLAIN], [PLAIN, BT709], [SRGB, LINEAR], [cicp(1, 13, 0, 1), LINEAR]])
def test_what_is_srgb_needs_no_profile(chunks: list[Chunk]) -> None:
    assert profile_for(chunks, grey=False) is None


@pytest.mark.parametrize("chunks", [[PQ], [HLG], [cicp(9, 14, 0, 0)], [cicp(1, 200, 0, 1)], [cicp(77, 13, 0, 1)]])
@pytest.mark.parametrize("name", ["out.jpg", "out.tif", "out.webp", "out.bmp"])
def test_colours_without_a_profile_are_refused_before_computing_with_a_way_out(
    tmp_path: Path, chunks: list[Chunk], name: str
) -> None:
    picture = read_image(png_with(tmp_path / "in.png", chunks))
    with pytest.raises(OutputError, match="cannot hold the colours") as caught:
        check_output(tmp_path / name, Layout.of(picture.pixels), picture.metadata)
    assert ".png" in caught.value.hint


def test_a_bmp_holds_no_linear_light(tmp_path: Path) -> None:
    picture = read_image(png_with(tmp_path / "in.png", [LINEAR]))
    with pytest.raises(OutputError, match="cannot hold a colour profile"):
        check_output(tmp_path / "out.bmp", Layout.of(picture.pixels), picture.metadata)


@pytest.mark.parametrize(("chunk", "curve"), [(PQ, "PQ"), (HLG, "HLG")])
def test_high_dynamic_range_is_read_with_a_note(tmp_path: Path, chunk: Chunk, curve: str) -> None:
    (note,) = read_image(png_with(tmp_path / "in.png", [chunk])).notes
    assert f"high dynamic range ({curve})" in note


def test_a_profile_counts_before_gamma_and_no_srgb_stands_next_to_it(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = png_with(tmp_path / "in.png", [SRGB, LINEAR], icc_profile=profile)
    kinds = [kind for kind, _ in chunks_of(kept(tmp_path, source, "out.png"))]
    assert b"iCCP" in kinds
    assert b"gAMA" in kinds
    assert b"sRGB" not in kinds
    with Image.open(kept(tmp_path, source, "out.jpg")) as image:
        assert image.info["icc_profile"] == profile


@pytest.mark.parametrize(
    "damaged",
    [Chunk(b"cICP", b"\1"), gamma(0), Chunk(b"sRGB", b""), Chunk(b"cHRM", bytes(8)), Chunk(b"gAMA", bytes(9))],
)
def test_damaged_chunks_are_left_out(tmp_path: Path, damaged: Chunk) -> None:
    stream = io.BytesIO(png_with(tmp_path / "in.png", [damaged, LIGHT]).read_bytes())
    assert read_colour(stream) == (LIGHT,)


def test_primaries_that_no_colours_have_are_refused() -> None:
    for corners in ((0,) * 8, (31270, 32900) * 4):
        with pytest.raises(NoProfileError, match="primaries"):
            profile_for([LINEAR, Chunk(b"cHRM", struct.pack(">8I", *corners))], grey=False)


RGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("source", ["in.jpg", "in.png", "in.tif"])
@pytest.mark.parametrize("target", ["out.png", "out.jpg", "out.tif", "out.webp"])
def test_grey_with_a_profile_of_rgb_becomes_neutral_rgb(tmp_path: Path, source: str, target: str) -> None:
    grey = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / source, icc_profile=RGB_PROFILE)
    with Image.open(kept(tmp_path, tmp_path / source, target)) as image:
        assert image.mode == "RGB"
        assert image.info["icc_profile"] == RGB_PROFILE
        pixels = np.asarray(image).astype(int)
    assert np.abs(pixels - grey[:, :, None]).max() <= (9 if target in {"out.webp", "out.jpg"} or "jpg" in source else 0)


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_and_alpha_with_a_profile_of_rgb_become_rgba_in_strips(tmp_path: Path, bits: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**bits, (700, 900, 2)).astype(f"uint{bits}")
    grey, alpha = pixels[:, :, :1], pixels[:, :, 1:]
    for name in ("out.png", "out.tif"):
        write_image(tmp_path / name, [pixels[:1], pixels[1:]], Layout.of(pixels), Metadata(RGB_PROFILE))
        assert np.array_equal(read_image(tmp_path / name).pixels, np.dstack([grey, grey, grey, alpha]))
