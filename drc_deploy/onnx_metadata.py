"""What an ONNX file says, read without the onnx package, which a machine that only runs networks lacks.

An ONNX file is one protobuf message, ``ModelProto``: a sequence of fields, each a tag and a value. What is not asked
for, such as the weights, is stepped over.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from drc_deploy.errors import ArtefactError
from drc_deploy.input_files import MOST_BYTES, open_file

_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2
"""Numbers of the fields in onnx.proto: of ModelProto, and of its StringStringEntryProto."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf."""
_LONGEST_VARINT = 10
_TAG_BITS = 0xFFFFFFFF
"""Other readers drop what is above, and would find a field that was not seen here."""
_REFUSED = {
    "subgraph": "a loop or a branch, which no network has that is run here",
    "external": "weights that lie in other files, which no export here has",
}
_INSIDE = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor", 22: "sparse", 23: "sparse", 6: "subgraph", 11: "subgraph"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
}
"""Kind of message -> number of a field in onnx.proto -> the kind of message in it."""


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """Return the ``metadata_props`` of an ONNX file.

    Raises:
        ArtefactError: the file cannot be read, or is no ONNX file.
    """
    try:
        with open_file(path) as stream:
            end = os.fstat(stream.fileno()).st_size
            if not end:
                raise ValueError("it is empty")
            entries = [_read_entry(stream, stop) for number, stop in _fields(stream, end) if number == _METADATA_PROPS]
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}.", "Check the file.") from error
    except ValueError as error:
        raise ArtefactError(f"{path} is not an ONNX file: {error}.", "Export it again.") from error
    return dict(entries)


def check_plain_graph(path: Path) -> None:
    """Refuse a graph that runs programs or reads other files; no export of a network does.

    Loops and branches are the operators that hold graphs, and a loop may be asked to run for years.

    Raises:
        ArtefactError: it does, or the file cannot be read, or is no ONNX file.
    """
    try:
        with open_file(path) as stream:
            found = _first_refused(stream, os.fstat(stream.fileno()).st_size, "model")
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}.", "Check the file.") from error
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} is not an ONNX file: {error}.", "Export it again.") from error
    if found:
        raise ArtefactError(f"{path} has {_REFUSED[found]}.", "Use a file that `drc-deploy export` wrote.")


def _first_refused(stream: BinaryIO, end: int, message: str) -> str:
    """Return the first of ``_REFUSED`` in a message that ends at ``end``; nothing where there is none."""
    for number, stop in _fields(stream, end):
        inside = _INSIDE[message].get(number, "")
        found = inside if inside in _REFUSED else inside and _first_refused(stream, stop, inside)
        if found:
            return found
    return ""


def _read_entry(stream: BinaryIO, end: int) -> tuple[str, str]:
    if end - stream.tell() > MOST_BYTES:
        raise ValueError(f"its metadata are longer than {MOST_BYTES >> 20} MiB")
    texts = {number: stream.read(stop - stream.tell()).decode() for number, stop in _fields(stream, end)}
    return texts.get(_KEY, ""), texts.get(_VALUE, "")


def _fields(stream: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Return the number of each field of a message that ends at ``end``, and where the field ends.

    The stream stands at the field's content, and steps over what was not read of it.
    """
    while stream.tell() < end:
        tag = _read_varint(stream) & _TAG_BITS
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _read_varint(stream)
            continue
        sizes = {_FIXED64: 8, _FIXED32: 4}
        size = _read_varint(stream) if kind == _BYTES else sizes.get(kind)
        if number == 0 or size is None:
            raise ValueError(f"a field of number {number} and wire type {kind}")
        stop = stream.tell() + size
        if stop > end:
            raise ValueError("a field is longer than the file")
        yield number, stop
        stream.seek(stop)


def _read_varint(stream: BinaryIO) -> int:
    """Read an integer of seven bits a byte, lowest first."""
    value = 0
    for index in range(_LONGEST_VARINT):
        byte = stream.read(1)
        if not byte:
            raise ValueError("it ends in the middle of a field")
        value |= (byte[0] & 0x7F) << (7 * index)
        if byte[0] < 0x80:  # the high bit says that more follow
            return value
    raise ValueError("an integer is too long")
