"""Reports that differ in one thing, as files."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drc_deploy.bench.machine.telemetry.energy import Energy
from drc_deploy.bench.machine.telemetry.power_state import PowerState
from drc_deploy.bench.machine.telemetry.summary import EngineTelemetry, Telemetry
from drc_deploy.bench.machine.telemetry.trace import Trace
from drc_deploy.bench.measure import latency
from drc_deploy.bench.report.records import EngineResult, ProgramResult, Report, Settings
from drc_deploy.bench.report.report_files import write_report
from tests.bench import fakes

STEADY = [1.00, 1.01, 0.99, 1.02, 1.00, 0.98, 1.01, 0.995]
"""Rounds of a quiet machine, around 1."""


def steady(name: str, ms: float, psnr: float = 30.0, **changes: Any) -> EngineResult:
    """Return an engine of a quiet machine; ``checkpoint`` and ``sha256`` among the changes say what it is."""
    result = fakes.engine(name, 1.0, psnr)
    rounds = [[ms * pace, ms * pace * 1.001, ms * pace * 0.999] for pace in STEADY]
    checkpoint = changes.pop("checkpoint", "c" * 64)
    network = dataclasses.replace(result.engine, checkpoint_sha256=checkpoint, **changes.pop("network", {}))
    timed = latency.summarise(rounds)
    return dataclasses.replace(result, latency=timed, engine=network, **changes)


def timed_otherwise(name: str, ms: float, of: str = "ours") -> EngineResult:
    """Return an engine of another program whose samples are shares of two images in flight."""
    timed = "2 images in flight, its time divided by <2>"
    result = steady(name, ms)
    stability = fakes.measurement(result.latency).stability
    return dataclasses.replace(
        result, program=ProgramResult("openvino", "throughput", of, {}, timed, 60.4, 1, stability)
    )


def with_energy(engine: EngineResult, joules: float, covers: str = "module") -> EngineResult:
    energy = Energy(joules, 10.0, None, "VDD_IN", covers, "trapezoid", 1.0, "")
    return dataclasses.replace(engine, telemetry=EngineTelemetry((), energy, (), None, (), {}))


def with_power_mode(report: Report, mode: str) -> Report:
    state = PowerState(None, None, mode, None, None, (), {})
    return dataclasses.replace(report, telemetry=Telemetry("", state, (), None, Trace(()), {}, ()))


def with_machine(report: Report, **changes: Any) -> Report:
    return dataclasses.replace(report, machine=dataclasses.replace(report.machine, **changes))


def with_settings(report: Report, **changes: Any) -> Report:
    settings: Settings = dataclasses.replace(report.settings, **changes)
    return dataclasses.replace(report, settings=settings)


def quiet(*engines: EngineResult) -> Report:
    return dataclasses.replace(fakes.report(*engines), warnings=())


def saved(folder: Path, report: Report) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return write_report(report, folder)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the JSON in a file."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path
