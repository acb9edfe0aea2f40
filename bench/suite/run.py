"""Measures the groups of a suite one after the other, and joins their reports to one."""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from drc_deploy import __version__
from drc_deploy.bench.machine.telemetry.instruments import find_instruments
from drc_deploy.bench.programs.supported import LIBRARIES
from drc_deploy.bench.report.records import Case, Group, NotMeasured, Report, Suite
from drc_deploy.bench.report.report_files import UNFINISHED_FILE, KeptReport, read_part, write_part
from drc_deploy.bench.run.benchmark import check_inputs, measure
from drc_deploy.bench.run.inputs import BenchOptions, EngineFile, find_engine_files
from drc_deploy.bench.run.worker import EngineProcess, StartProcess
from drc_deploy.bench.suite.halves import NO_HALVES, Halves, ask_torch
from drc_deploy.bench.suite.matrix import EngineFacts, Matrix, PlannedCase, plan_matrix, read_facts
from drc_deploy.bench.suite.open_case import open_case
from drc_deploy.errors import ArtefactError, MissingDependencyError, OutputError
from drc_deploy.runtime.backends.ort.providers import CUDA, OPENVINO, import_onnxruntime
from drc_deploy.runtime.backends.trt.gpu_memory import has_cuda_driver
from drc_deploy.runtime.machine.machine import Machine, describe_machine, installed_packages
from drc_deploy.runtime.upscaler import Upscaler

CASE_SECONDS = 600.0
"""The most that a case may take where nothing else is asked for."""

FINISHED_FOLDER = "suite.state"
"""Holds the report of every group that was measured, until the suite is complete: a suite that is killed goes on."""

CHANGING = ("load_average", "unavailable")
"""What of a machine differs from one minute to the next."""


class MatrixSuite:
    """One suite: planned when it is made, measured by ``reports``.

    Attributes:
        matrix: The plan.
    """

    def __init__(
        self,
        options: BenchOptions,
        seconds: float | None,
        open_case: Callable[[Path, int | None, Case], Upscaler] = open_case,
        ask_torch: Callable[[], Halves] = ask_torch,
        start: StartProcess = EngineProcess,
    ) -> None:
        """Plan the suite; after ``seconds`` no group begins.

        Raises:
            DrcDeployError: nothing to measure was found, the images cannot be used, or the folder is not writable.
        """
        self._case_seconds = options.case_seconds or CASE_SECONDS
        self._options = dataclasses.replace(options, case_seconds=self._case_seconds)
        self._seconds, self._open_case, self._start = seconds, open_case, start
        self._finished = options.out / FINISHED_FOLDER
        self._unfinished = KeptReport(options.out / UNFINISHED_FILE)
        self._machine = describe_machine()
        self._warnings: list[str] = []
        self._resumed = 0
        found = find_engine_files(options.engines, options.workdir)
        check_inputs(options)
        files, self._damaged = _read_files(found)
        has_checkpoint = any(file.file.path.suffix == ".safetensors" for file in files)
        self.matrix: Matrix = plan_matrix(
            files,
            (options.height, options.width),
            cpu_too=_has_other_provider(),
            halves=ask_torch() if has_checkpoint else NO_HALVES,
        )

    def reports(self) -> Iterator[Report]:
        """Measure group by group, and yield a report of all so far after each. Only the last may be complete.

        A group that an earlier run measured with the same files, settings and machine is not measured again.
        """
        start = time.monotonic()
        done: list[Report] = []
        for group in self.matrix.groups:
            part = self._finished / f"{_group_key(group, self._options, self._machine)}.json"
            report = read_part(part)
            if report is None or not _holds(report, group):
                if self._seconds is not None and time.monotonic() - start >= self._seconds:
                    break
                report = self._measure(group)
                self._keep(part, report)
                self._unfinished.forget()
            else:
                self._resumed += 1
            done.append(report)
            yield self._joined(done)

    def forget(self) -> None:
        """Remove what was kept, after the report is written."""
        shutil.rmtree(self._finished, ignore_errors=True)

    def _measure(self, group: Sequence[PlannedCase]) -> Report:
        threads = self._options.threads
        entrants = [(one.file, partial(self._open_case, one.file.path, threads, one.case)) for one in group]
        report = measure(self._options, entrants, find_instruments, self._unfinished, self._start, with_crops=False)
        cases = {planned.file.name: planned.case for planned in group}
        others = Case(group[0].case.group, "default", None, None, None)
        engines = tuple(dataclasses.replace(engine, case=cases.get(engine.name, others)) for engine in report.engines)
        return dataclasses.replace(report, engines=engines)

    def _keep(self, part: Path, report: Report) -> None:
        """Write a group; a full disk costs only the ability to go on, so it does not end the run."""
        try:
            write_part(report, part)
        except OutputError as error:
            self._warnings.append(f"What was measured could not be kept for a later run: {error.message}")

    def _joined(self, done: Sequence[Report]) -> Report:
        """Return one report of several groups."""
        groups = self.matrix.groups
        measured = list(zip((group[0].case.group for group in groups), done, strict=False))
        waiting = [planned.file.name for group in groups[len(done) :] for planned in group]
        hint = "The same command goes on from here."
        later = [NotMeasured(name, "skipped", "the suite stopped before it.", hint) for name in waiting]
        reached = [item for report in done for item in report.not_measured]
        baselines = {baseline.scale: baseline for report in done for baseline in report.baselines}
        limit = f" --suite-seconds {self._seconds:g}" if self._seconds is not None else ""
        command = f"{self._options.command} --suite matrix{limit}"
        return dataclasses.replace(
            done[-1],
            summary=" ".join(f"In {name}: {report.summary}" for name, report in measured),
            warnings=(
                *self._joint_warnings(len(waiting)),
                *(f"{name}: {text}" for name, report in measured for text in report.warnings),
            ),
            machine=self._machine,
            settings=dataclasses.replace(done[-1].settings, command=command),
            baselines=tuple(baselines[scale] for scale in sorted(baselines)),
            engines=tuple(engine for report in done for engine in report.engines),
            not_measured=tuple(dict.fromkeys([*self._damaged, *reached, *later])),
            telemetry=None,  # each group has a trace of its own; what it says of an engine is with that engine
            comparisons=tuple(found for report in done for found in report.comparisons),
            suite=self._record(done),
        )

    def _joint_warnings(self, waiting: int) -> Iterator[str]:
        if waiting:
            yield f"This report is incomplete: {waiting} cases were not reached."
        if len(self.matrix.groups) > 1:
            yield "Only cases of one group took turns: compare the times of two groups with caution."
        if self._resumed:
            yield f"{self._resumed} of the groups were measured earlier, by a run that was stopped."
        yield from self._warnings

    def _record(self, done: Sequence[Report]) -> Suite:
        groups = []
        for group, report in zip(self.matrix.groups, done, strict=False):
            cases = tuple(planned.file.name for planned in group)
            groups.append(Group(group[0].case.group, cases, report.created, report.machine.load_average))
        return Suite(
            name="matrix",
            complete=len(done) == len(self.matrix.groups),
            groups=tuple(groups),
            left_out=self.matrix.left_out,
            case_seconds=self._case_seconds,
            seconds=self._seconds,
        )


def _read_files(found: Sequence[EngineFile]) -> tuple[list[EngineFacts], list[NotMeasured]]:
    """Read all files; one that is damaged is not measured."""
    files, damaged = [], []
    for file in found:
        try:
            files.append(read_facts(file))
        except ArtefactError as error:
            damaged.append(NotMeasured(file.name, "failed", error.message, error.hint))
    if not files:
        raise ArtefactError(f"no engine can be read: {damaged[0].reason}", damaged[0].hint)
    return files, damaged


def _has_other_provider() -> bool:
    """Return whether ONNX Runtime would compute with something else than its CPU provider."""
    try:
        available = set(import_onnxruntime().get_available_providers())
    except MissingDependencyError:
        return False
    return OPENVINO in available or (CUDA in available and has_cuda_driver())


def _holds(report: Report, group: Sequence[PlannedCase]) -> bool:
    """Return whether all of a group were measured; what failed is tried again."""
    return {planned.file.name for planned in group} <= {engine.name for engine in report.engines}


def _group_key(cases: Sequence[PlannedCase], options: BenchOptions, machine: Machine) -> str:
    """Return what stands for everything that the figures of a group depend on, as 64 hexadecimal digits."""
    fixed = {name: value for name, value in dataclasses.asdict(machine).items() if name not in CHANGING}
    parts = {
        "version": __version__,
        "cases": [(planned.file.name, planned.sha256, dataclasses.asdict(planned.case)) for planned in cases],
        "machine": fixed,
        "settings": (options.height, options.width, options.min_runs, options.min_seconds, options.threads),
        "images": (str(options.data), options.lr_folder, _image_files(options.data)),
        "programs": {name: installed_packages(LIBRARIES[name].packages) for name in options.against},
        "seconds": options.case_seconds,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _image_files(data: Path | None) -> list[tuple[str, int, int]]:
    """Return the files in the folders of ``data`` with size and time of change."""
    if data is None:
        return []
    files = sorted(path for path in data.glob("*/*") if path.is_file())
    return [(str(path.relative_to(data)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
