"""Names of machines in a report of several."""

from collections.abc import Sequence

from drc_deploy.bench.machine.memory import is_gpu
from drc_deploy.bench.report.records import Report


def machine_label(report: Report) -> str:
    """Name the board, else the GPU where an engine ran on one, else the processor."""
    machine = report.machine
    on_gpu = any(is_gpu(engine.device) for engine in report.engines)
    gpus = ", ".join(dict.fromkeys(gpu.name for gpu in machine.gpus)) if on_gpu else ""
    return machine.board or gpus or machine.cpu or machine.system


def machine_labels(reports: Sequence[Report]) -> list[str]:
    """Name the machines of several reports; one that comes again has the number of its report."""
    labels = [machine_label(report) for report in reports]
    return [label if labels.count(label) == 1 else f"{label} ({index + 1})" for index, label in enumerate(labels)]
