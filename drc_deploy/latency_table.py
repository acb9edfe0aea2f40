"""Latency tables: how long each prunable layer of a model takes on one machine, by width."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from drc_deploy import records
from drc_deploy.errors import ArtefactError
from drc_deploy.files import write_text
from drc_deploy.input_files import read_bytes

LATENCY_SUFFIX = ".latency.json"
LARGEST_SIDE = 16384
"""Of the LR input."""
SHORTEST_MS, LONGEST_MS = 1e-6, 1e9
"""A nanosecond and eleven days: what a network takes on any machine lies between, and shares of it are numbers."""


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """Content of ``NAME.latency.json``."""

    model: str
    scale: int
    device: str
    """The machine that was measured, for people."""
    library: str
    """What computed there, with its version and precision."""
    height: int
    """Of the LR input."""
    width: int
    fixed_ms: float
    """Time of all that pruning does not change."""
    layers: tuple[str, ...]
    """Names of the prunable layers, in the model's order."""
    points: tuple[tuple[tuple[int, float], ...], ...]
    """For each of them (channels, milliseconds) with rising channels."""

    def __post_init__(self) -> None:
        """Refuse a table that widths cannot be looked up in."""
        if len(self.layers) != len(self.points):
            raise ValueError(f"{len(self.layers)} layers but {len(self.points)} lists of times")
        if not 1 <= min(self.height, self.width) <= max(self.height, self.width) <= LARGEST_SIDE:
            raise ValueError(f"an input of {self.height}x{self.width}")
        if not 0 <= self.fixed_ms < float("inf"):
            raise ValueError(f"a fixed time of {self.fixed_ms} ms")
        for name, points in zip(self.layers, self.points, strict=True):
            widths, times = [width for width, _ in points], [ms for _, ms in points]
            rising = widths == sorted(set(widths)) and times == sorted(times)
            if not points or not rising or not all(0 <= ms < float("inf") for ms in times):
                raise ValueError(f"the times of layer {name} are no table that rises with the width")
        whole_ms = self.fixed_ms + sum(points[-1][1] for points in self.points)
        if not SHORTEST_MS <= whole_ms <= LONGEST_MS:
            raise ValueError(f"times that come to {whole_ms:g} ms in all")


def fingerprint(table: LatencyTable) -> str:
    """Return a SHA-256 of all that a table holds, by which unfinished and finished work knows it."""
    return hashlib.sha256(records.to_json(table).encode()).hexdigest()


def write_latency_table(path: Path, table: LatencyTable) -> None:
    """Write a latency table atomically."""
    write_text(path, records.to_json(table) + "\n")


def read_latency_table(path: Path, *, model: str, scale: int) -> LatencyTable:
    """Read the latency table of a model.

    Raises:
        ArtefactError: missing, damaged, or of another model or scale.
    """
    try:
        text = read_bytes(path)
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}.", "Make it with `drc-deploy latency`.") from error
    table = records.from_dict(LatencyTable, records.parse_json_object(text, str(path)), str(path))
    if (table.model, table.scale) != (model, scale):
        raise ArtefactError(
            f"{path} holds times of {table.model} x{table.scale}, not of {model} x{scale}.",
            f"Run `drc-deploy latency {model}`.",
        )
    return table
