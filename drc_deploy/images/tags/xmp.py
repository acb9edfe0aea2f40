"""XMP of a photograph made fit for its upscaled version: what is no longer true changes, the rest stays as it is.

Namespaces and properties are those of the XMP specification, part 2, and of Google's and Adobe's for second pictures.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from xml.parsers import expat

_SEPARATOR = " "
"""Between the namespace and the name of an element; neither holds one."""
_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
_WIDTHS = ((_TIFF, "ImageWidth"), (_EXIF, "PixelXDimension"), (_DIMENSIONS, "w"))
_HEIGHTS = ((_TIFF, "ImageLength"), (_EXIF, "PixelYDimension"), (_DIMENSIONS, "h"))
_FACES = "http://www.metadataworkinggroup.com/schemas/regions/"
_REGIONS = (_FACES, "http://ns.microsoft.com/photo/1.2/")
_APPLIED_TO = (_FACES, "AppliedToDimensions")
"""The size that faces were found at; where they are is said in shares of it."""
_ORIENTATION = (_TIFF, "Orientation")
GAIN_MAPS = ("http://ns.adobe.com/hdr-gain-map/1.0/", "http://ns.apple.com/HDRGainMap/1.0/")
_SECOND_PICTURES = (
    *GAIN_MAPS,
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/container/item/",
    "http://ns.google.com/photos/1.0/camera/",
    "http://ns.google.com/photos/1.0/image/",
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/audio/",
    "http://ns.google.com/photos/dd/1.0/device/",
)
"""Namespaces about pictures, depths and films behind the image, which its result does not have."""
EXTENDED = ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP")
"""Says that more XMP lies elsewhere in a JPEG."""
_THUMBNAILS = ("http://ns.adobe.com/xap/1.0/", "Thumbnails")
_TAG = re.compile(rb"<[^\s\"'/>]*([^\"'>]*(?:(?:\"[^\"]*\"|'[^']*')[^\"'>]*)*)>")
"""A tag, whose group is all behind its name; a > in an attribute ends none."""
_ATTRIBUTE = re.compile(rb"([^\s=/>]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_MOST_BYTES = 16 << 20
"""Larger XMP is left out: it holds pictures or an attack."""

_UNTRUE = (*_SECOND_PICTURES, _THUMBNAILS, EXTENDED)

_Name = tuple[str, str]
"""Namespace and name."""


def upright_xmp(xmp: bytes, width: int, height: int) -> bytes | None:
    """Say in ``xmp`` that the image is upright and has ``width`` x ``height`` pixels.

    Thumbnails go, and what describes gain maps, depth maps, films and other pictures behind the first one.

    Returns:
        UTF-8 with all other bytes as they were, or None where it is damaged, larger than 16 MiB or defines entities.
    """
    values = dict.fromkeys(_WIDTHS, width) | dict.fromkeys(_HEIGHTS, height) | {_ORIENTATION: 1}
    return _edited(xmp, _parsed(xmp, {name: str(value).encode() for name, value in values.items()}, _UNTRUE))


def without_regions(xmp: bytes) -> bytes | None:
    """Take away where faces are, which is no longer true of an image that is turned; the rest as ``upright_xmp``."""
    return _edited(xmp, _parsed(xmp, {}, _REGIONS))


def _edited(xmp: bytes, found: "_Found | None") -> bytes | None:
    if found is None:
        return None
    parts, end = [], 0
    for start, stop, replacement in sorted(found.edits, key=lambda edit: (edit[0], -edit[1])):
        if start >= end:  # else it lies in what was dropped
            parts += [xmp[end:start], replacement]
            end = stop
    return b"".join((*parts, xmp[end:]))


def mentions(xmp: bytes) -> set[_Name]:
    """Return namespace and name of all elements and attributes; nothing where ``upright_xmp`` returns None."""
    found = _parsed(xmp, {}, ())
    return found.names if found else set()


@dataclass
class _Found:
    """What one pass over the XML came upon."""

    values: dict[_Name, bytes]
    """What properties are to say."""
    dropped: "tuple[str | _Name, ...]"
    """Namespaces and properties that are taken away."""
    edits: list[tuple[int, int, bytes]] = field(default_factory=list)
    """From where to where bytes are replaced, and by what."""
    names: set[_Name] = field(default_factory=set)


class _Refused(Exception):  # noqa: N818  # ends the parser
    """The XML is none that can be changed in place, or defines entities, which could stand for any amount of text."""


def _parsed(xmp: bytes, values: dict[_Name, bytes], dropped: "tuple[str | _Name, ...]") -> _Found | None:
    if len(xmp) > _MOST_BYTES:
        return None
    found = _Found(values, dropped)
    reader = _Reader(xmp, found)
    try:
        xmp.decode("utf-8")  # positions count bytes
        reader.run()
    except (expat.ExpatError, UnicodeDecodeError, _Refused):
        return None
    return found


class _Reader:
    """Notes where in the bytes of an XMP packet its properties stand."""

    def __init__(self, xmp: bytes, found: _Found) -> None:
        self._xmp, self._found = xmp, found
        self._parser = parser = expat.ParserCreate("utf-8", _SEPARATOR)
        parser.StartNamespaceDeclHandler, parser.EndNamespaceDeclHandler = self._declare, self._forget
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.StartDoctypeDeclHandler = self._refuse
        self._prefixes: defaultdict[str, list[str]] = defaultdict(lambda: [""])
        """What each prefix means in the elements that are open, the innermost last; an unknown one means nothing."""
        self._open: list[tuple[_Name, int, int]] = []
        """Name of each element, where it starts, and where its content does."""

    def run(self) -> None:
        # Writers pad packets with zeros; XML takes none.
        self._parser.Parse(self._xmp.rstrip(b"\0"), True)

    def _declare(self, prefix: str | None, uri: str) -> None:
        self._prefixes[prefix or ""].append(uri)

    def _forget(self, prefix: str | None) -> None:
        self._prefixes[prefix or ""].pop()

    def _refuse(self, *_: object) -> None:
        raise _Refused

    def _start(self, element: str, attributes: object) -> None:
        namespace, _, local = element.rpartition(_SEPARATOR)
        tag = self._tag(self._parser.CurrentByteIndex)
        self._found.names.add((namespace, local))
        self._open.append(((namespace, local), tag.start(), tag.end()))
        for match in _ATTRIBUTE.finditer(self._xmp, *tag.span(1)):
            prefix, _, local = match[1].decode().partition(":")
            name = (self._prefixes[prefix][-1], local)
            self._found.names.add(name)
            self._edit(name, match.span(), match.span(2 if match[2] is not None else 3))

    def _end(self, _: str) -> None:
        name, start, content = self._open.pop()
        if self._xmp[content - 2 : content] == b"/>":  # it has no content, and no tag ends it
            self._edit(name, (start, content), None)
        else:
            position = self._parser.CurrentByteIndex
            self._edit(name, (start, self._tag(position).end()), (content, position))

    def _edit(self, name: _Name, whole: tuple[int, int], value: tuple[int, int] | None) -> None:
        if name[0] in self._found.dropped or name in self._found.dropped:
            self._found.edits.append((*whole, b""))
        elif name[0] == _DIMENSIONS and not any(opened == _APPLIED_TO for opened, *_ in self._open):
            return  # the size of something else, such as a page
        elif value and name in self._found.values:
            self._found.edits.append((*value, self._found.values[name]))

    def _tag(self, start: int) -> "re.Match[bytes]":
        match = _TAG.match(self._xmp, start)
        if match is None:
            raise _Refused  # positions are not what they seem
        return match
