"""What ``nvidia-smi`` tells about the GPUs. Jetsons and machines without a driver have no working one."""

import csv
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from drc_deploy.errors import MissingDependencyError

TIMEOUT_S = 20.0
MIB = 1 << 20
FIELDS = ("name", "driver_version", "compute_cap", "memory.total", "power.limit", "clocks.max.sm")

Query = Callable[[str], str]
"""Gives the CSV that ``nvidia-smi`` prints for a comma-separated list of fields."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. A field that the driver does not tell is None."""

    name: str
    driver: str
    compute_capability: str | None
    memory_bytes: int | None
    power_limit_w: float | None
    max_clock_mhz: float | None


def run_query(fields: str) -> str:
    """Run ``nvidia-smi`` and give what it printed.

    Raises:
        MissingDependencyError: it is not there, or it failed.
    """
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingDependencyError("nvidia-smi does not run on this machine.") from error
    if done.returncode != 0:
        reason = (done.stdout or done.stderr).strip().splitlines()
        raise MissingDependencyError(f"nvidia-smi failed: {reason[0] if reason else 'it said nothing'}.")
    return done.stdout


def query_gpus(query: Query = run_query) -> tuple[Gpu, ...]:
    """Describe every GPU.

    Raises:
        MissingDependencyError: there is no working ``nvidia-smi``.
    """
    rows = csv.reader(query(",".join(FIELDS)).splitlines())
    return tuple(_parse_gpu(row) for row in rows if len(row) == len(FIELDS))  # it prints warnings among them


def query_used_bytes(query: Query = run_query) -> int | None:
    """Return the memory in use on all GPUs together; None where nobody tells."""
    try:
        lines = query("memory.used").splitlines()
    except MissingDependencyError:
        return None
    used_mib = [number for line in lines if (number := parse_number(line)) is not None]
    return int(sum(used_mib) * MIB) if used_mib else None


def _parse_gpu(row: list[str]) -> Gpu:
    values = dict(zip(FIELDS, (value.strip() for value in row), strict=True))
    memory_mib = parse_number(values["memory.total"])
    return Gpu(
        name=values["name"],
        driver=values["driver_version"],
        compute_capability=values["compute_cap"] if parse_number(values["compute_cap"]) else None,
        memory_bytes=None if memory_mib is None else int(memory_mib * MIB),
        power_limit_w=parse_number(values["power.limit"]),
        max_clock_mhz=parse_number(values["clocks.max.sm"]),
    )


def parse_number(text: str) -> float | None:
    """Parse a number; drivers write ``[N/A]`` and ``[Not Supported]`` for what they do not know."""
    try:
        return float(text)
    except ValueError:
        return None
