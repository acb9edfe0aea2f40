import io
import struct
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
from PIL import Image, IptcImagePlugin

from drc_deploy.errors import ImageError
from drc_deploy.images.formats import output_notes
from drc_deploy.images.metadata import Metadata
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.reading import Picture, decode_image, read_image
from drc_deploy.images.tags.png_chunks import Chunk
from drc_deploy.images.writing import write_image
from tests.core.images.png_files import GREY, chunk, chunks_of, png_with
from tests.core.images.tags.test_xmp import FACES, packet

XMP = packet(b"xmp:Rating='5' tiff:Orientation='6' tiff:ImageWidth='5'")
TRUE_XMP = packet(b"xmp:Rating='5' tiff:Orientation='1' tiff:ImageWidth='10'")
KEYWORD, CAPTION = (2, 25), (2, 120)
RECORDS = b"\x1c\x02\x19\0\3cat\x1c\x02\x78\0\5a cat"
"""IPTC-IIM 4.2: mark, record, dataset, length, value."""
RESOURCES = b"8BIM\x04\x25\0\0\0\0\0\1x\0" + b"8BIM\x04\x04\3abc" + struct.pack(">I", len(RECORDS)) + RECORDS
"""Another resource, and the records in one that has a name."""


def jpeg(*segments: tuple[int, bytes], **options: Any) -> bytes:
    """A JPEG with segments of any kind behind its first mark."""
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "JPEG", **options)
    made = b"".join(struct.pack(">HH", 0xFFE0 + number, len(data) + 2) + data for number, data in segments)
    return buffer.getvalue()[:2] + made + buffer.getvalue()[2:]


APP1_XMP, APP13_IPTC = (1, b"http://ns.adobe.com/xap/1.0/\0" + XMP), (13, b"Photoshop 3.0\0" + RESOURCES)


def raw_profile(kind: str, content: bytes) -> tuple[bytes, bytes]:
    """As ImageMagick writes it."""
    text = f"\n{kind}\n{len(content):8}\n{content.hex()}\n"
    return b"zTXt", b"Raw profile type " + kind.encode() + b"\0\0" + zlib.compress(text.encode())


def source(kind: str, folder: Path) -> Path:
    """A file with XMP and IPTC as programs write them."""
    path = folder / f"in.{kind.partition('-')[0]}"
    if kind == "jpg":
        path.write_bytes(jpeg(APP1_XMP, APP13_IPTC))
    elif kind == "png":
        png_with(path, [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), raw_profile("iptc", RESOURCES)])
    elif kind == "png-packed":
        packed = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)
        png_with(path, [(b"iTXt", packed), raw_profile("8bim", RESOURCES)])
    elif kind == "png-raw":
        png_with(path, [raw_profile("xmp", XMP), raw_profile("iptc", RECORDS)])
    elif kind == "tif":
        tags = Image.Exif()
        tags[700], tags[33723] = XMP, RECORDS
        Image.fromarray(GREY).save(path, exif=tags)
    elif kind == "tif-photoshop":
        tags = Image.Exif()
        tags[700], tags[34377] = XMP, RESOURCES
        Image.fromarray(GREY).save(path, exif=tags)
    else:
        Image.fromarray(GREY).save(path, xmp=XMP)
    return path


def kept(picture: Picture, path: Path) -> Path:
    """What ``upscale`` makes, but for the network: twice as large."""
    pixels = picture.pixels.repeat(2, 0).repeat(2, 1)
    layout = Layout.of(pixels)
    write_image(path, [pixels], layout, picture.metadata.for_size(layout.width, layout.height))
    return path


def iptc_of(path: Path) -> Any:
    with Image.open(path) as image:
        if image.format != "PNG":
            return IptcImagePlugin.getiptcinfo(image)
        _, _, digits = image.info["Raw profile type iptc"].strip().split("\n", 2)
    with Image.open(io.BytesIO(jpeg((13, b"Photoshop 3.0\0" + bytes.fromhex(digits))))) as image:
        return IptcImagePlugin.getiptcinfo(image)


SOURCES = ["jpg", "png", "png-packed", "png-raw", "tif", "tif-photoshop", "webp"]


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("target", ["out.png", "out.jpg", "out.tif", "out.webp"])
def test_xmp_goes_to_every_format_and_becomes_true(tmp_path: Path, kind: str, target: str) -> None:
    with Image.open(kept(read_image(source(kind, tmp_path)), tmp_path / target)) as image:
        image.load()
        assert image.info["xmp"] == TRUE_XMP


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "webp"])
@pytest.mark.parametrize("target", ["out.png", "out.jpg", "out.tif"])
def test_iptc_goes_to_the_formats_that_have_a_place_for_it(tmp_path: Path, kind: str, target: str) -> None:
    result = kept(read_image(source(kind, tmp_path)), tmp_path / target)
    found = iptc_of(result)
    assert (found[KEYWORD], found[CAPTION]) == (b"cat", b"a cat")


def test_records_that_photoshop_stored_as_numbers_are_read(tmp_path: Path) -> None:
    whole = RECORDS + bytes(-len(RECORDS) % 4)
    orders: tuple[Literal["<"], Literal[">"]] = ("<", ">")
    for order in orders:
        numbers = struct.unpack(f"{order}{len(whole) // 4}I", whole)
        tags = [(33723, "I", len(numbers), numbers, True)]
        tifffile.imwrite(tmp_path / "in.tif", GREY, photometric="rgb", extratags=tags, byteorder=order, metadata=None)
        assert read_image(tmp_path / "in.tif").metadata.iptc == whole


TEXTS = [
    (b"tEXt", b"parameters\0a tree\nSteps: 40"),
    (b"zTXt", b"workflow\0\0" + zlib.compress(b'{"nodes": []}')),
    (b"iTXt", b"Title\0\0\0de\0Titel\0" + "B\N{LATIN SMALL LETTER A WITH DIAERESIS}ume".encode()),
]


@pytest.mark.parametrize("bits", [8, 16])
def test_texts_go_from_png_to_png_as_they_are(tmp_path: Path, bits: int) -> None:
    pixels = GREY if bits == 8 else np.full((4, 5), 30000, np.uint16)
    result = kept(read_image(png_with(tmp_path / "in.png", TEXTS, pixels)), tmp_path / "out.png")
    assert [one for one in chunks_of(result) if one[0] in dict(TEXTS)] == TEXTS


def test_texts_behind_the_pixels_are_found(tmp_path: Path) -> None:
    content = png_with(tmp_path / "in.png", TEXTS).read_bytes()
    texts, rest = content[33 : content.index(b"IDAT") - 4], content[content.index(b"IDAT") - 4 :]
    moved = content[:33] + rest[:-12] + texts + rest[-12:]
    assert decode_image(moved, "x").metadata.texts == tuple(TEXTS)


def test_an_exif_that_stood_in_a_text_stands_in_its_chunk_and_says_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    result = kept(
        read_image(png_with(tmp_path / "in.png", [raw_profile("exif", exif.tobytes())])), tmp_path / "out.png"
    )
    with Image.open(result) as image:
        assert image.size == (8, 10)
        assert image.getexif()[0x0112] == 1
        assert "Raw profile type exif" not in image.info


@pytest.mark.parametrize(
    ("name", "metadata", "lacks"),
    [
        (
            "x.jpg",
            Metadata(texts=tuple(Chunk(*text) for text in TEXTS)),
            "the texts ('parameters', 'workflow', 'Title')",
        ),
        ("x.webp", Metadata(iptc=RECORDS), "IPTC"),
        ("x.bmp", Metadata(iptc=RECORDS, xmp=XMP, exif=b"II*\0"), "EXIF and XMP and IPTC"),
        ("x.jpg", Metadata(xmp=bytes(70000)), "XMP"),
        ("x.jpg", Metadata(iptc=bytes(70000)), "IPTC"),
    ],
)
def test_what_a_format_cannot_hold_is_named(tmp_path: Path, name: str, metadata: Metadata, lacks: str) -> None:
    (note,) = output_notes(Path(name), Layout.of(GREY), metadata)
    assert f"{name} lacks {lacks} of the original" in note
    write_image(tmp_path / name, [GREY], Layout.of(GREY), metadata)
    assert list(output_notes(Path("x.png"), Layout.of(GREY), metadata)) == []


def test_the_largest_blocks_that_a_jpeg_holds_are_written(tmp_path: Path) -> None:
    records = RECORDS + bytes(65506 - len(RECORDS))
    metadata = Metadata(xmp=packet()[:-30] + b" " * (65504 - len(packet())) + packet()[-30:], iptc=records)
    assert list(output_notes(Path("x.jpg"), Layout.of(GREY), metadata)) == []
    write_image(tmp_path / "x.jpg", [GREY], Layout.of(GREY), metadata)
    assert read_image(tmp_path / "x.jpg").metadata.xmp == metadata.xmp
    assert read_image(tmp_path / "x.jpg").metadata.iptc == records


def test_a_text_that_unpacks_to_megabytes_is_refused_by_what_it_is(tmp_path: Path) -> None:
    for kind, head in ((b"zTXt", b"bomb\0\0"), (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0")):
        with pytest.raises(ImageError, match="unpacks to more than") as caught:
            read_image(png_with(tmp_path / "in.png", [(kind, head + zlib.compress(bytes(5 << 20)))]))
        assert "metadata" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        (b"zTXt", b"workflow"),
        (b"zTXt", b"Raw profile type iptc\0\0damage"),
        (b"tEXt", b"Raw profile type exif\0not hexadecimal"),
        (b"iTXt", b"XML:com.adobe.xmp"),
        (b"tEXt", b"dpi\0300"),
        (b"tEXt", b"transparency\0none"),
        (b"tEXt", b"icc_profile\0sRGB"),
        (b"tEXt", b"exif\0none"),
        (b"tEXt", b"gamma\0none"),
        (b"iTXt", b"xmp\0\0\0\0\0none"),
        raw_profile("8bim", b"8BIM\x04\x04\0\0\0\0"),
    ],
)
def test_damaged_and_odd_texts_do_not_make_an_image_unreadable(tmp_path: Path, text: tuple[bytes, bytes]) -> None:
    picture = read_image(png_with(tmp_path / "in.png", [text]))
    assert np.array_equal(picture.pixels, GREY)
    assert (picture.metadata.iptc, picture.metadata.xmp, picture.metadata.dpi) == (None, None, None)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "RGBA"])
def test_a_text_called_like_a_property_is_only_a_text(tmp_path: Path, mode: str) -> None:
    for keyword in (b"transparency", b"icc_profile", b"exif", b"dpi"):
        text = (b"tEXt", keyword + b"\0some words")
        Image.fromarray(GREY).convert(mode).save(tmp_path / "plain.png")
        content = (tmp_path / "plain.png").read_bytes()
        for place in (33, len(content) - 12):  # before the pixels, behind a palette as before it, and at the end
            (tmp_path / "x.png").write_bytes(content[:place] + chunk(*text) + content[place:])
            picture = read_image(tmp_path / "x.png")
            assert np.array_equal(picture.pixels, read_image(tmp_path / "plain.png").pixels)
            assert (picture.notes, picture.metadata.exif, picture.metadata.texts) == ((), None, (text,))


@pytest.mark.parametrize("orientation", [1, 3])
def test_faces_are_kept_unless_the_image_is_turned(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode_image(jpeg((1, b"http://ns.adobe.com/xap/1.0/\0" + packet(b"", FACES)), exif=exif), "x.jpg")
    assert picture.metadata.xmp == packet(b"", FACES if orientation == 1 else b"")


def test_damaged_xmp_is_left_out_with_a_note(tmp_path: Path) -> None:
    picture = decode_image(jpeg((1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>")), "in.jpg")
    assert picture.notes == ("in.jpg has XMP that is damaged: it is left out.",)
    assert picture.metadata.for_size(8, 8).xmp is None


@pytest.mark.parametrize("orientation", [1, 6])
def test_of_xmp_in_several_parts_the_first_is_kept_with_a_note(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    xmp = packet(b"xmp:Rating='5' n:HasExtendedXMP='0123'")
    picture = decode_image(jpeg((1, b"http://ns.adobe.com/xap/1.0/\0" + xmp), exif=exif), "in.jpg")
    assert picture.notes == ("in.jpg has XMP in several parts: all but the first are left out.",)
    assert picture.metadata.for_size(8, 8).xmp == packet(b"xmp:Rating='5' ")


def test_a_second_picture_is_left_out_with_a_note(tmp_path: Path) -> None:
    image = Image.fromarray(GREY)
    image.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[image])
    assert read_image(tmp_path / "x.jpg").notes == (f"{tmp_path / 'x.jpg'} holds 2 pictures: only the first is used.",)


@pytest.mark.parametrize("segment", ["adobe", "iso"])
def test_a_gain_map_is_left_out_with_a_note_and_no_longer_mentioned(tmp_path: Path, segment: str) -> None:
    xmp = packet(b"xmp:Rating='5' hdrgm:Version=\"1.0\"")
    adobe, iso = (1, b"http://ns.adobe.com/xap/1.0/\0" + xmp), (2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4))
    with Image.open(io.BytesIO(jpeg(adobe if segment == "adobe" else iso))) as image:
        buffer = io.BytesIO()
        image.save(buffer, "MPO", save_all=True, append_images=[image])
    content = jpeg(adobe if segment == "adobe" else iso)[:-2] + b"\xff\xd9" + buffer.getvalue()
    picture = decode_image(content, "in.jpg")
    assert picture.notes == ("in.jpg has a gain map for screens of high dynamic range: it is left out.",)
    assert b"hdrgm:Version" not in kept(picture, tmp_path / "out.jpg").read_bytes()
