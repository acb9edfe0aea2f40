"""What the report says of a suite, and of each of its cases."""

from dataclasses import dataclass
from typing import Literal

from drc_deploy.engine_info import Precision


@dataclass(frozen=True, slots=True)
class Case:
    """One way of running an engine file."""

    group: str
    """The cases of one group took turns with each other, those of two groups did not."""
    backend: Literal["default", "cpu"]
    """``default``: what `upscale` takes. ``cpu``: ONNX Runtime's CPU provider, where the default is another one."""
    tile: int | None
    """Largest side of a tile in input pixels; None: as large as the engine and memory allow."""
    batch: int | None
    """Tiles in a call; None: the backend's own choice."""
    precision: Precision | None = None
    """In which a checkpoint is computed; None: fp32, or what an exported file was exported in."""


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that took turns."""

    name: str
    cases: tuple[str, ...]
    """Their names in the report, measured or not."""
    created: str
    """When it was measured: UTC, ISO 8601."""
    load_average: float | None
    """As it began; see ``Machine.load_average``."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A part of the matrix that is not measured by intention."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Suite:
    """How the cases of a report were planned and measured."""

    name: Literal["matrix"]
    complete: bool
    """Whether every group was measured."""
    groups: tuple[Group, ...]
    left_out: tuple[LeftOut, ...]
    case_seconds: float
    """The most that a case may take, loading and quality included."""
    seconds: float | None
    """After this time no group begins; None: no limit."""
