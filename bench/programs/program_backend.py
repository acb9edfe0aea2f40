"""The contract of another program: a backend as ours, with its settings, which may time itself."""

import importlib.util
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from drc_deploy.bench.measure.timing import Round, TimingBudget, time_runs
from drc_deploy.checkpoint_info import read_checkpoint_info
from drc_deploy.engine_info import EngineInfo
from drc_deploy.files import sha256_of
from drc_deploy.metrics import UInt8Image
from drc_deploy.runtime.backends.contract import Backend

TIMED = "a run is"
"""The setting that says what a timed run is, where it is not one image from memory to memory."""

Upscale = Callable[[UInt8Image], UInt8Image]


@dataclass(frozen=True, slots=True)
class ProgramRequest:
    """What a child process opens."""

    path: Path
    variant: str
    """One of the program's ``variants``."""
    threads: int | None
    """CPU threads; None leaves the choice to the program."""
    size: tuple[int, int]
    """Height and width of the image that latency is measured on."""


def checkpoint_engine(path: Path) -> EngineInfo:
    """Describe the network of a checkpoint as an engine that takes whole images, one at a time, in float32."""
    checkpoint = read_checkpoint_info(path)
    return EngineInfo(
        model=checkpoint.model,
        scale=checkpoint.scale,
        precision="fp32",
        io_dtype="float32",
        tile=None,
        max_batch=1,
        receptive_field=0,
        global_operations=True,
        params=checkpoint.params,
        widths=checkpoint.widths,
        checkpoint_sha256=sha256_of(path),
        multiple_of=checkpoint.multiple_of,
        minimum=checkpoint.minimum,
    )


class ProgramBackend(Backend):
    """A network in another program, for the same tiler as ours. It is made from a ``ProgramRequest``.

    Attributes:
        ways: In which it can run a network.
        packages: What must be importable.
        install: How to get it, in a sentence.
        suffixes: Files of ours that it can run.
        settings: Version, threads, and what else was set, in words.
    """

    ways: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]]
    install: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    settings: dict[str, str]
    _info: EngineInfo
    _device: str

    @abstractmethod
    def __init__(self, request: ProgramRequest) -> None:
        """Load the network.

        Raises:
            ArtefactError: the program cannot load it.
        """

    @classmethod
    def variants(cls) -> Sequence[str]:
        """Return the ways of running a network that make sense on this machine."""
        return cls.ways

    @classmethod
    def missing(cls) -> list[str]:
        """Return which parts of the program are not installed here."""
        return [name for name in cls.packages if importlib.util.find_spec(name) is None]

    @property
    def info(self) -> EngineInfo:
        """What the file says about itself."""
        return self._info

    @property
    def device(self) -> str:
        """The program and what it runs on."""
        return self._device

    def time(self, upscale: Upscale, image: UInt8Image, budget: TimingBudget) -> Round:
        """Time one round of ``upscale`` over this backend; a program that overlaps or times itself does it its way."""
        return time_runs(lambda: upscale(image), budget)
