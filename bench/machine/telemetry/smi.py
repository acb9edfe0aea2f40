"""NVIDIA GPUs through ``nvidia-smi``, where NVML's package is missing: one program a sweep, so once in a second."""

import csv
from collections.abc import Callable, Sequence

from drc_deploy.bench.machine.nvidia_smi import Query, parse_number
from drc_deploy.bench.machine.telemetry.sensors import Found, Meter, Probe, ProbeGroup, Sensor
from drc_deploy.bench.machine.telemetry.trace import Kind
from drc_deploy.errors import MissingDependencyError

PERIOD_S = 1.0

NUMBERS: dict[str, Kind] = {
    "power.draw": "power",
    "temperature.gpu": "temperature",
    "clocks.sm": "clock",
    "utilization.gpu": "load",
}
LIMITS = {
    "sw_power_cap": "software power cap",
    "hw_slowdown": "hardware slowdown",
    "sw_thermal_slowdown": "software thermal slowdown",
    "hw_thermal_slowdown": "hardware thermal slowdown",
    "hw_power_brake_slowdown": "external power brake",
}
LIMIT_PREFIXES = ("clocks_event_reasons", "clocks_throttle_reasons")
"""The new name and the one before; a name that a driver does not know makes it refuse the whole question."""
STATES = {"Active": 1.0, "Not Active": 0.0}

Row = list[float | None]


def open_smi(query: Query) -> tuple[ProbeGroup, Found]:
    """Return what ``nvidia-smi`` tells about every GPU, as a source and with its meter.

    Raises:
        MissingDependencyError: it does not run, or tells nothing.
    """
    fields, rows = _first_rows(query)
    names = [f"GPU {index}" if len(rows) > 1 else "GPU" for index in range(len(rows))]
    sensors = [sensor for name in names for sensor in _sensors(name, fields)]
    known = [value is not None for row in rows for value in row]
    if not any(known):
        raise MissingDependencyError("nvidia-smi gives no number on this machine.")
    told = tuple(sensor for sensor, is_known in zip(sensors, known, strict=True) if is_known)
    silent = [sensor for sensor, is_known in zip(sensors, known, strict=True) if not is_known]
    missing = {f"{sensor.kind} ({sensor.name})": f"nvidia-smi does not tell {sensor.name}" for sensor in silent}
    powers = tuple(sensor.name for sensor in told if sensor.kind == "power")
    meters = (Meter("GPU board", "GPU", "power", powers, PERIOD_S),) if len(powers) == len(rows) else ()
    source = ProbeGroup("nvidia-smi", PERIOD_S, (Probe(told, _reader(query, fields, known)),))
    return source, Found((), meters, missing)


def _first_rows(query: Query) -> tuple[list[str], list[Row]]:
    """Find the names of the fields that this driver knows; give them with what it answers."""
    for prefix in LIMIT_PREFIXES:
        fields = [*NUMBERS, *(f"{prefix}.{name}" for name in LIMITS)]
        try:
            return fields, _rows(query, fields)
        except MissingDependencyError:
            continue
    return list(NUMBERS), _rows(query, list(NUMBERS))


def _rows(query: Query, fields: Sequence[str]) -> list[Row]:
    """Ask once; give the values of each GPU, None for what it does not tell."""
    rows = csv.reader(query(",".join(fields)).splitlines())
    cells = ([cell.strip() for cell in row] for row in rows if len(row) == len(fields))
    return [[STATES.get(cell, parse_number(cell)) for cell in row] for row in cells]


def _sensors(name: str, fields: Sequence[str]) -> list[Sensor]:
    return [
        Sensor(f"{name} {NUMBERS[field]}", NUMBERS[field], "GPU", f"nvidia-smi {field}")
        if field in NUMBERS
        else Sensor(f"{name}: {LIMITS[field.partition('.')[2]]}", "throttle", "GPU", f"nvidia-smi {field}")
        for field in fields
    ]


def _reader(query: Query, fields: Sequence[str], known: Sequence[bool]) -> Callable[[], Row]:
    def read() -> Row:
        values = [value for row in _rows(query, fields) for value in row]
        if len(values) != len(known):
            raise ValueError("nvidia-smi tells of another number of GPUs than before")
        return [value for value, is_known in zip(values, known, strict=True) if is_known]

    return read
