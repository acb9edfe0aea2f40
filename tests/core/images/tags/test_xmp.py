import time
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drc_deploy.images.tags.xmp import mentions, upright_xmp, without_regions

TIFF, EXIF, XMP = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/", "http://ns.adobe.com/xap/1.0/"
HEAD = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:e="http://ns.adobe.com/exif/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:C="http://ns.google.com/photos/1.0/container/"
 xmlns:I="http://ns.google.com/photos/1.0/container/item/" xmlns:n="http://ns.adobe.com/xmp/note/" """
TAIL = b"""</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def packet(attributes: bytes = b"", elements: bytes = b"") -> bytes:
    return HEAD + attributes + b">" + elements + TAIL


def description(xmp: bytes) -> Any:
    """The one description in a packet, read by another parser."""
    (found,) = ElementTree.fromstring(xmp.decode("utf-8").strip("\0")).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    return found


def test_size_and_orientation_become_true_as_attributes_and_as_elements() -> None:
    as_attributes = packet(b"tiff:Orientation='6' tiff:ImageWidth=\"30\" tiff:ImageLength='40' xmp:Rating='5'")
    changed = upright_xmp(as_attributes, 160, 120)
    assert changed == packet(b"tiff:Orientation='1' tiff:ImageWidth=\"160\" tiff:ImageLength='120' xmp:Rating='5'")
    as_elements = b"<tiff:Orientation>8</tiff:Orientation><e:PixelXDimension >30</e:PixelXDimension>"
    found = upright_xmp(packet(elements=as_elements + b"<e:PixelYDimension>40</e:PixelYDimension>"), 160, 120)
    assert found is not None
    values = {child.tag: child.text for child in description(found)}
    assert values == {
        f"{{{TIFF}}}Orientation": "1",
        f"{{{EXIF}}}PixelXDimension": "160",
        f"{{{EXIF}}}PixelYDimension": "120",
    }


def test_namespaces_count_and_not_their_prefixes() -> None:
    other = (
        b"<a xmlns:tiff='urn:other' xmlns:t='http://ns.adobe.com/tiff/1.0/' tiff:Orientation='6' t:Orientation='6'/>"
    )
    assert upright_xmp(other, 2, 2) == other.replace(b" t:Orientation='6'", b" t:Orientation='1'")


def test_a_prefix_means_another_namespace_in_the_element_that_says_so_and_only_there() -> None:
    inner = b"<rdf:li xmlns:tiff='urn:other' tiff:Orientation='6'/>"
    outer = b"<rdf:li tiff:Orientation='6'/>"
    assert upright_xmp(packet(b"", inner + outer), 2, 2) == packet(b"", inner + outer.replace(b"6", b"1"))


def test_what_is_behind_the_picture_and_its_thumbnail_are_taken_away_and_all_else_stays() -> None:
    kept = b"<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>a &gt; b \xc3\xa4</rdf:li></rdf:Alt></dc:title>"
    thumbnail = b"<xmp:Thumbnails><rdf:Alt><rdf:li>/9j/4AAQ</rdf:li></rdf:Alt></xmp:Thumbnails>"
    folder = b"<C:Directory><rdf:Seq><rdf:li><C:Item I:Mime='image/jpeg'/></rdf:li></rdf:Seq></C:Directory>"
    gain = b"<hdrgm:GainMapMax>2</hdrgm:GainMapMax><hdrgm:Empty/>"
    xmp = packet(b"hdrgm:Version='1.0' n:HasExtendedXMP='9'", thumbnail + folder + kept + gain)
    assert upright_xmp(xmp, 8, 8) == packet(b" ", kept)


FACES = b"""<m:Regions xmlns:m="http://www.metadataworkinggroup.com/schemas/regions/" rdf:parseType="Resource"
 xmlns:d="http://ns.adobe.com/xap/1.0/sType/Dimensions#"><m:AppliedToDimensions d:w="30" d:h="20" d:unit="pixel"/>
<m:RegionList><rdf:Bag><rdf:li><rdf:Description d:w="7" m:Name="Ann"/></rdf:li></rdf:Bag></m:RegionList></m:Regions>"""


def test_faces_are_where_they_were_in_an_image_of_the_new_size() -> None:
    expected = FACES.replace(b'd:w="30" d:h="20"', b'd:w="120" d:h="80"')
    assert upright_xmp(packet(b"", FACES), 120, 80) == packet(b"", expected)
    nested = b"<m:AppliedToDimensions rdf:parseType='Resource'><d:w>30</d:w><d:h>20</d:h></m:AppliedToDimensions>"
    spaces = b" xmlns:m='http://www.metadataworkinggroup.com/schemas/regions/'"
    spaces += b" xmlns:d='http://ns.adobe.com/xap/1.0/sType/Dimensions#'"
    changed = nested.replace(b">30<", b">120<").replace(b">20<", b">80<")
    assert upright_xmp(packet(spaces, nested + b"<d:w>9</d:w>"), 120, 80) == packet(spaces, changed + b"<d:w>9</d:w>")


def test_faces_of_an_image_that_is_turned_are_taken_away() -> None:
    title = b"<dc:title>a</dc:title>"
    assert without_regions(packet(b"xmp:Rating='5'", FACES + title)) == packet(b"xmp:Rating='5'", title)


def test_empty_and_missing_values_are_left_alone() -> None:
    xmp = packet(b"xmp:Rating='5'", b"<tiff:Orientation/><tiff:ImageWidth></tiff:ImageWidth>")
    assert upright_xmp(xmp, 8, 8) == packet(
        b"xmp:Rating='5'", b"<tiff:Orientation/><tiff:ImageWidth>8</tiff:ImageWidth>"
    )


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"no XML",
        packet()[:-40],
        "<a>\N{LATIN SMALL LETTER A WITH DIAERESIS}</a>".encode("latin-1"),
        '<?xml version="1.0" encoding="utf-16"?><a/>'.encode("utf-16"),
        b"<!DOCTYPE a [<!ENTITY b 'bbbb'><!ENTITY c '&b;&b;&b;'>]><a>&c;</a>",
        b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
        b"<a>" + bytes(17 << 20) + b"</a>",
    ],
    ids=range(8),
)
def test_damage_entities_and_pictures_of_megabytes_make_it_none(damaged: bytes) -> None:
    assert upright_xmp(damaged, 8, 8) is None
    assert mentions(damaged) == set()


@pytest.mark.parametrize(
    "hostile",
    [
        b"<a " + b" " * (1 << 20) + b"/>",
        b"<" + b"a" * (1 << 20) + b"/>",
        b"<a>" * 50000 + b"</a>" * 50000,
        b"<a " + b" ".join(b"b%d='>'" % number for number in range(20000)) + b"/>",
    ],
    ids=range(4),
)
def test_hostile_xml_takes_no_time_that_grows_with_its_square(hostile: bytes) -> None:
    start = time.thread_time()  # of this thread's work, whatever else the machine does
    assert upright_xmp(hostile, 8, 8) == hostile
    assert time.thread_time() - start < 5


@given(
    text=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20),
    width=st.integers(1, 10**6),
    single=st.booleans(),
)
def test_any_text_around_a_property_stays_to_the_byte(text: str, width: int, single: bool) -> None:
    quote = "'" if single else '"'
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(quote, "&#39;" if single else "&quot;")
    element = f"<dc:a xmlns:dc='urn:b' dc:c={quote}{safe}{quote}>{safe.replace('>', '&gt;')}</dc:a>".encode()
    before = packet(b"tiff:ImageWidth='1'", element)
    try:
        ElementTree.fromstring(before.decode())
    except ElementTree.ParseError:  # of characters that XML does not allow
        return
    assert upright_xmp(before, width, 1) == packet(f"tiff:ImageWidth='{width}'".encode(), element)
