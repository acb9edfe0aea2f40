"""Metadata of a checkpoint, read without torch."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from drc_deploy import records
from drc_deploy.errors import ArtefactError
from drc_deploy.input_files import open_file, why_not
from drc_deploy.slices import LeftOut, PrunableLayer

LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header."""
MOST_HEADER_BYTES = 16 << 20
"""A tensor takes a hundred bytes of it, and what is known of a network less than a megabyte."""
METADATA_KEY = "drc_deploy"
DualDesign = Literal["progressive", "single", "wide"]
"""Paper, Table 7: one dual per halving; one straight from the finest image to the input; one per halving, twice as
wide."""


LARGEST_WIDTH = 1 << 20
LARGEST_SETTING = 2048
"""Of channels, depths and sides: a file could otherwise ask for a network that fills the memory."""


def _numbers(value: Any) -> Iterator[float]:
    """Yield all numbers in parsed JSON."""
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)


@dataclass(frozen=True, slots=True)
class ForeignSpec:
    """How to build a network that is none of this package's own, and what was measured of it on import.

    Its file needs nothing else to be built: neither the original weights nor a new search for what they are.
    """

    source: str
    """``spandrel:ID`` for an architecture that spandrel knows; ``FILE.py:NAME`` or ``package.module:NAME`` for code."""
    target: str
    """Class or function that builds the network, ``module:NAME``."""
    settings: dict[str, Any]
    """Its keyword arguments that differ from their defaults: JSON values only."""
    code_sha256: str | None
    """SHA-256 of the source file of code of one's own; None for spandrel, which is a package of known versions."""
    channels: Literal[1, 3]
    """Of the images; a network for grey images upscales red, green and blue one by one."""
    value_range: float
    """Value of white in input and output: 1 or 255."""
    kept_buffers: tuple[str, ...]
    """Last parts of the names of buffers that were trained; all others are computed when the network is built."""
    multiple_of: int
    """Sides of inputs, and places of tiles that compute what the whole image does, are multiples of this."""
    minimum: int
    """Least side of an input, in pixels."""
    receptive_field: int
    """How far an output pixel sees on each side through local operations, in input pixels."""
    global_operations: bool
    """Whether something sees the whole input, or how large it is: no tile is exact."""
    layers: tuple[PrunableLayer, ...] = ()
    """What can be cut in the unpruned network; each was cut alone and compared."""
    left_out: tuple[LeftOut, ...] = ()
    """What was found and is not offered for pruning."""
    cuttable_params: float = 0.0
    """Share of the parameters in tensors that a layer narrows, layers of the trunk aside."""
    cuttable_multiply_adds: float = 0.0
    """Share of the multiply-adds in weights that a layer narrows, layers of the trunk aside."""

    def __post_init__(self) -> None:
        """Refuse numbers that no network can have."""
        if not (1 <= self.multiple_of <= LARGEST_SETTING and 1 <= self.minimum <= LARGEST_SETTING):
            raise ValueError(f"multiple_of and minimum must be from 1 to {LARGEST_SETTING}")
        if self.receptive_field < 0 or self.value_range not in (1.0, 255.0):
            raise ValueError("receptive_field must be at least 0, and value_range 1 or 255")
        if any(number > LARGEST_SETTING for number in _numbers(self.settings)):
            raise ValueError(f"no setting of a network is above {LARGEST_SETTING}")
        for layer in self.layers:
            numbers = [
                layer.full_width - 1,
                *(n for s in layer.slices for n in (s.axis, s.start, s.group - 1, s.repeats - 1)),
            ]
            if not (layer.made and layer.read and min(numbers) >= 0 and max(numbers) < LARGEST_WIDTH):
                raise ValueError(f"layer {layer.name!r} is none that a network has")


WINDOWS = {"swinir": 8, "swinir_light": 8}
"""Sides of the windows of attention of this package's own networks that have some."""
LEAST_SIDES = WINDOWS | {"dcls": 8, "dcls_xs": 8}
"""Least sides of images of this package's own networks that do not take every image."""


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """Metadata of a ``NAME.safetensors`` checkpoint."""

    model: str
    """Name of the architecture, for example ``drn_s``."""
    scale: int
    widths: tuple[int, ...]
    """Channels in each prunable layer, in the model's own order; the unpruned network has its full widths."""
    duals: int
    """Number of dual networks in the file; 0 when it has none."""
    params: int
    """Number of parameters of the primal network."""
    provenance: dict[str, Any]
    """How the weights came to be: stage, data, steps, seed, PSNR, ..."""
    parent_sha256: str | None
    """SHA-256 of the checkpoint that this one was made from."""
    dual_design: DualDesign
    """Which kind of dual networks the file holds."""
    foreign: ForeignSpec | None = None
    """How to build a network that is none of this package's own; None for those of ``drc-deploy models``."""
    weights_sha256: str | None = None
    """Of all tensors in the file (``checkpoint.tensors_sha256``); None in files from before it was written."""

    def __post_init__(self) -> None:
        """Refuse widths that are not those of the layers."""
        layers = self.foreign.layers if self.foreign else ()
        if self.foreign and len(layers) != len(self.widths):
            raise ValueError(f"{len(self.widths)} widths are given for {len(layers)} layers")
        if any(not 1 <= width <= layer.full_width for layer, width in zip(layers, self.widths, strict=False)):
            raise ValueError("a width is below 1 or above that of its layer")

    @property
    def multiple_of(self) -> int:
        """Sides of every input are multiples of this, in input pixels."""
        return self.foreign.multiple_of if self.foreign else WINDOWS.get(self.model, 1)

    @property
    def minimum(self) -> int:
        """Least side of an input, in input pixels."""
        return self.foreign.minimum if self.foreign else LEAST_SIDES.get(self.model, 1)


def read_checkpoint_info(path: Path) -> CheckpointInfo:
    """Read the metadata of a checkpoint without loading its weights.

    Raises:
        ArtefactError: the file is missing, damaged, or no checkpoint of this program.
    """
    try:
        metadata = _metadata(path)
    except (SafetensorError, OSError) as error:
        raise unreadable(path, error) from error
    return parse_checkpoint_info(metadata, path)


_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Types of numbers by their names in safetensors files."""


def stored_types(path: Path) -> tuple[str, ...]:
    """Return the types in which a checkpoint stores its weights, usually one; all are loaded as float32.

    Raises:
        ArtefactError: the file is missing or damaged.
    """
    try:
        check_header(path)
        with safe_open(path, framework="numpy") as tensors:
            found = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise unreadable(path, error) from error
    return tuple(sorted(_TYPES.get(name, name) for name in found))


def is_checkpoint(path: Path) -> bool:
    """Return whether a file is a checkpoint of this program."""
    try:
        return METADATA_KEY in _metadata(path)
    except (SafetensorError, OSError):
        return False


def check_header(path: Path) -> None:
    """Refuse a safetensors file by the length that its header is said to have; the library would hold it ten times.

    Raises:
        SafetensorError: it is longer than the headers of networks are.
        OSError: the file cannot be read, or is none.
    """
    with open_file(path) as stream:
        _header_end(stream.read(LENGTH_BYTES))


def _header_end(content: bytes) -> int:
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    if length > MOST_HEADER_BYTES:
        raise SafetensorError(f"its header would be longer than {MOST_HEADER_BYTES >> 20} MiB")
    return LENGTH_BYTES + length


def _metadata(path: Path) -> Mapping[str, str]:
    check_header(path)
    with safe_open(path, framework="numpy") as tensors:
        return tensors.metadata() or {}


def metadata_in(content: bytes) -> dict[str, str]:
    """Return the metadata in the bytes of a safetensors file.

    Raises:
        SafetensorError: the header is too long.
        ValueError: they are of no such file.
    """
    try:
        header = json.loads(content[LENGTH_BYTES : _header_end(content)])
    except RecursionError as error:
        raise ValueError("the header is nested too deeply") from error
    metadata: Any = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise ValueError("the header is no object")
    return metadata


def parse_checkpoint_info(metadata: Mapping[str, str], path: Path) -> CheckpointInfo:
    """Return what the metadata of the safetensors file ``path`` says.

    Raises:
        ArtefactError: they are not of a checkpoint of this program.
    """
    if METADATA_KEY not in metadata:
        raise ArtefactError(
            f"{path} is a safetensors file of another program.",
            f"Make a checkpoint of it: `drc-deploy import {path}`.",
        )
    return records.from_dict(CheckpointInfo, records.parse_json_object(metadata[METADATA_KEY], str(path)), str(path))


def unreadable(path: Path, error: Exception) -> ArtefactError:
    """Return the error for a file that is missing or no safetensors file."""
    if why := why_not(path):  # the library calls every file that it cannot open missing
        return ArtefactError(f"{path} {why}.", "Check the path and its permissions.")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return ArtefactError(
        f"{path} is not a readable safetensors file: {reason}.",
        "If it is an official .pt file, convert it with `drc-deploy import`.",
    )
