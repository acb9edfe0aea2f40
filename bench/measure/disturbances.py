"""Other work of the machine during a round, as Linux reports it: processes, time stolen by a hypervisor, the clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from drc_deploy.proc_files import read_text

FEWEST_TICKS = 20
"""Below so many ticks of all cores together (a tick is 10 ms as a rule) the shares would be mostly rounding."""
_USER, _NICE, _SYSTEM, _IDLE, _IOWAIT, _IRQ, _SOFTIRQ, _STEAL = range(8)
"""Columns of ``/proc/stat`` (proc_stat(5)); those of guests are counted in the first two already."""
_UTIME, _CSTIME = 11, 14
"""First and last of the columns of ``/proc/PID/stat``, after the name of the program, of the time that it and its
children took (proc_pid_stat(5)): another program may compute in a process of its own."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """One round. None where the system does not report it."""

    others_share: float | None
    """Part of the time of all cores that processes other than the engine's took, in 0..1."""
    steal_share: float | None
    """Part of the time of all cores that a hypervisor gave to other guests, in 0..1."""
    clock_mhz: float | None
    """Mean frequency of the cores at the end of the round."""


class _Ticks(NamedTuple):
    total: int
    busy: int
    steal: int
    own: int


class ConditionsWatch:
    """Watches the machine around the rounds of one engine's process.

    Attributes:
        rounds: What was seen, one for each round.
    """

    def __init__(self, pid: int, root: Path = Path("/")) -> None:
        self._pid, self._root = pid, root
        self.rounds: list[Conditions] = []

    @contextmanager
    def round(self) -> Iterator[None]:
        """Watch one round."""
        before = self._ticks()
        yield
        others, steal = _shares(before, self._ticks())
        self.rounds.append(Conditions(others, steal, clock_mhz(self._root)))

    def _ticks(self) -> _Ticks | None:
        machine = (read_text(self._root / "proc/stat") or "").split("\n", 1)[0].split()
        process = (read_text(self._root / f"proc/{self._pid}/stat") or "").rpartition(")")[2].split()
        if len(machine) <= _STEAL + 1 or len(process) <= _CSTIME:
            return None
        counts = [int(word) for word in machine[1 : _STEAL + 2]]
        idle = counts[_IDLE] + counts[_IOWAIT]
        busy = sum(counts) - idle - counts[_STEAL]
        own = sum(int(word) for word in process[_UTIME : _CSTIME + 1])
        return _Ticks(sum(counts), busy, counts[_STEAL], own)


def _shares(before: _Ticks | None, after: _Ticks | None) -> tuple[float | None, float | None]:
    """Return the shares of other processes and of the hypervisor."""
    if before is None or after is None or after.total - before.total < FEWEST_TICKS:
        return None, None
    total, busy, steal, own = (end - start for start, end in zip(before, after, strict=True))
    return min(max((busy - own) / total, 0.0), 1.0), steal / total


def clock_mhz(root: Path = Path("/")) -> float | None:
    """Return the mean frequency of all cores; None where the kernel does not set it, as in most virtual machines."""
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    values = [int(text) / 1000 for path in files if (text := read_text(path)) and text.isdigit()]
    return sum(values) / len(values) if values else None
