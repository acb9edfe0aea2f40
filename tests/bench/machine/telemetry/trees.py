"""Machines to sample: recorded trees, and sources and traces of known values."""

from collections.abc import Callable, Sequence
from pathlib import Path

from drc_deploy.bench.machine.telemetry.instruments import Instruments, System
from drc_deploy.bench.machine.telemetry.power_state import PowerState
from drc_deploy.bench.machine.telemetry.sensors import Meter, ProbeGroup, single
from drc_deploy.bench.machine.telemetry.trace import UNITS, Kind, Part, Series, Trace, Track
from drc_deploy.errors import MissingDependencyError

FIXTURES = Path(__file__).parent / "recorded"
UNREADABLE, LINK = "!", "-> "


def build_tree(name: str, root: Path) -> Path:
    """Write a recorded tree below ``root``."""
    for line in (FIXTURES / f"{name}.tree").read_text().splitlines():
        if line and not line.startswith("#"):
            place, _, content = line.partition("\t")
            _write(root, root / place, content)
    return root


def _write(root: Path, path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if content == UNREADABLE:
        path.mkdir()  # reading it is an OSError, for root too
    elif content.startswith(LINK):
        path.symlink_to(root / content.removeprefix(LINK))
    else:
        path.write_text(content + "\n")


def absent(*_: object) -> str:
    raise MissingDependencyError("it does not run on this machine.")


def no_module() -> object:
    raise MissingDependencyError("There is no working NVIDIA driver (NVML Shared Library Not Found).")


def bare_system(root: Path) -> System:
    """Return a machine that has files and nothing else."""
    return System(root, absent, ("/nonexistent/tegrastats",), no_module)


def answering(answers: dict[str, str]) -> Callable[[Sequence[str]], str]:
    """Return a command runner that knows some programs."""

    def run(command: Sequence[str]) -> str:
        if command[0] not in answers:
            raise MissingDependencyError(f"{command[0]} does not run on this machine.")
        return answers[command[0]]

    return run


NOTHING_SET = PowerState(None, None, None, None, None, (), {})


def instruments(source: ProbeGroup, *meters: Meter) -> Instruments:
    return Instruments(NOTHING_SET, [source], list(meters))


def source_of(
    read: Callable[[], float], kind: Kind = "power", name: str = "VDD_IN", period_s: float = 0.01
) -> ProbeGroup:
    return ProbeGroup("fake", period_s, (single(name, kind, "all", "a test", read),))


def series(name: str, kind: Kind, values: Sequence[float | None], part: Part = "all") -> Series:
    return Series(name, kind, UNITS[kind], part, "a test", tuple(values))


def trace(times_s: Sequence[float], *columns: Series, period_s: float = 0.1) -> Trace:
    return Trace((Track("fake", period_s, 1.0, 0.01, tuple(times_s), columns),))
