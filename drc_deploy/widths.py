"""Widths files: how many channels each prunable layer of a model keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drc_deploy import records
from drc_deploy.errors import ArtefactError
from drc_deploy.files import write_text
from drc_deploy.input_files import read_text

WIDTHS_SUFFIX = ".widths.json"
MOST_DIGITS = 9
"""Of a width in a list; Python itself refuses to convert some thousand."""
Target = Literal["channels", "params", "madds", "latency"]
"""What the pruning ratio bounds: the channels of every layer (the paper), or a cost of the whole network."""


@dataclass(frozen=True, slots=True)
class WidthsFile:
    """Content of ``NAME.widths.json``."""

    model: str
    """Architecture that the widths belong to."""
    scale: int
    ratio: float
    """Share of channels that was to go, as asked of the search."""
    layers: tuple[str, ...]
    """Names of the prunable layers, in the model's order."""
    widths: tuple[int, ...]
    """Channels kept in each of them."""
    found_by: str
    """How they were found, for people."""
    target: Target = "channels"
    """What ``ratio`` bounds."""
    unit: str = "channels"
    """Of ``asked``, ``reached`` and ``full``."""
    asked: float | None = None
    """The most that the pruned network was allowed."""
    reached: float | None = None
    """What it has."""
    full: float | None = None
    """What the unpruned network has."""
    full_widths: tuple[int, ...] = ()
    """Channels of each layer in the unpruned network."""
    candidates: tuple[tuple[int, ...], ...] = ()
    """Widths that each layer could choose from, where there was a search."""
    probabilities: tuple[tuple[float, ...], ...] = ()
    """Softmax of the logits of those candidates at the end of the search."""

    def __post_init__(self) -> None:
        """Refuse a list that does not fit its names."""
        if len(self.layers) != len(self.widths):
            raise ValueError(f"{len(self.layers)} layers but {len(self.widths)} widths")


def amount(value: float) -> str:
    """Write a cost out for people: counts in full, milliseconds to four digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def write_widths(path: Path, content: WidthsFile) -> None:
    """Write a widths file atomically."""
    write_text(path, records.to_json(content) + "\n")


def read_widths_file(path: Path) -> WidthsFile:
    """Read a ``.widths.json``.

    Raises:
        ArtefactError: missing, damaged or of another version.
    """
    return records.from_dict(WidthsFile, records.parse_json_object(_read_text(path), str(path)), str(path))


def read_widths(path: Path, *, model: str, scale: int, layers: Sequence[str] | None = None) -> tuple[int, ...]:
    """Read the widths for a model from a ``.widths.json`` or from a text file with one integer a line.

    Args:
        path: the file.
        model: what it must be for.
        scale: of the model.
        layers: names of the model's prunable layers; a ``.widths.json`` must have them in this order.

    Raises:
        ArtefactError: missing, damaged, or made for another model, scale or order of layers.
    """
    if path.suffix == ".json":
        content = read_widths_file(path)
        if (content.model, content.scale) != (model, scale):
            raise ArtefactError(
                f"{path} holds widths of {content.model} x{content.scale}, not of {model} x{scale}.",
                "Search widths for this model, or name the other one.",
            )
        if layers is not None and content.layers != tuple(layers):
            raise ArtefactError(
                f"{path} names other layers than {model} x{scale} has, or in another order.", "Search widths again."
            )
        return content.widths
    words = _read_text(path).split()
    if not words or not all(word.isascii() and word.isdigit() and len(word) <= MOST_DIGITS for word in words):
        raise ArtefactError(f"{path} is not a list of integers, one a line.", "Give such a list or a .widths.json.")
    return tuple(map(int, words))


def _read_text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}.", "Give a widths file.") from error
    except UnicodeDecodeError as error:
        raise ArtefactError(f"{path} is not text.", "Give a widths file.") from error
