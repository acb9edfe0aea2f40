"""The other programs of one run: which there are, whether they compute the same, and their part of the report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from drc_deploy.bench.measure.fidelity import ImageDifference
from drc_deploy.bench.measure.latency import Latency
from drc_deploy.bench.programs.parity import compare, comparison_inputs
from drc_deploy.bench.programs.program_backend import TIMED, ProgramRequest
from drc_deploy.bench.programs.supported import LIBRARIES, OpenProgram, find_program_input
from drc_deploy.bench.report.records import NotMeasured, ProgramResult
from drc_deploy.bench.run.engines import Engines, MeasuredEngine
from drc_deploy.bench.run.inputs import EngineFile
from drc_deploy.bench.run.worker import Session
from drc_deploy.errors import ArtefactError, DrcDeployError
from drc_deploy.metrics import UInt8Image


@dataclass(frozen=True, slots=True)
class ProgramOptions:
    """Which other programs to measure."""

    against: tuple[str, ...]
    """Names of ``LIBRARIES``."""
    workdir: Path
    threads: int | None
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Entry:
    open_program: OpenProgram
    file: EngineFile
    of: str


class OtherPrograms:
    """Those among the engines of a run that other programs compute."""

    def __init__(self, options: ProgramOptions) -> None:
        self._options = options
        self._entries: dict[str, _Entry] = {}
        self._parities: dict[str, ImageDifference] = {}
        self._settings: dict[str, dict[str, str]] = {}

    def enter(self, engines: Engines) -> None:
        """Load the networks of all engines in other programs; the same network in the same program once only."""
        ours = list(engines.active)
        for library in dict.fromkeys(self._options.against):
            if missing := LIBRARIES[library].missing():
                reason, hint = f"{', '.join(missing)} is not installed.", LIBRARIES[library].install
                engines.not_measured.append(NotMeasured(library, "skipped", reason, hint))
                continue
            for entry in self._plan(library, ours, engines.not_measured):
                self._entries[entry.file.name] = entry
                engines.enter(entry.file, entry.open_program)

    def _plan(self, library: str, ours: Sequence[MeasuredEngine], not_measured: list[NotMeasured]) -> list[_Entry]:
        entries: dict[Path, list[_Entry]] = {}
        for engine in ours:
            file = engine.file
            try:
                path = find_program_input(library, file.path, engine.opened.info, self._options.workdir)
            except ArtefactError as error:
                name = f"{file.name} ({library})"
                not_measured.append(NotMeasured(name, "skipped", error.message, error.hint))
                continue
            entries.setdefault(path.resolve(), list(self._entries_of(library, path, file.name)))
        return [entry for variants in entries.values() for entry in variants]

    def _entries_of(self, library: str, path: Path, of: str) -> Iterator[_Entry]:
        for variant in LIBRARIES[library].variants():
            request = ProgramRequest(path, variant, self._options.threads, self._options.size)
            yield _Entry(OpenProgram(library, request), EngineFile(f"{of} ({library} {variant})", path), of)

    def check(self, engines: Engines, image: UInt8Image) -> None:
        """Take out of the run every program whose output differs from our engine's."""
        if not self._entries:
            return
        inputs, outputs = comparison_inputs(image), {}
        compared_with = {entry.of for entry in self._entries.values()}

        def upscale(engine: MeasuredEngine) -> None:
            name = engine.file.name
            if name in compared_with or name in self._entries:
                outputs[name] = [engine.upscale(part) for part in inputs]

        engines.each(upscale)
        engines.each(partial(self._check_one, outputs=outputs))

    def _check_one(self, engine: MeasuredEngine, outputs: dict[str, list[UInt8Image]]) -> None:
        name = engine.file.name
        entry = self._entries.get(name)
        if entry is None:
            return
        if entry.of not in outputs:
            raise DrcDeployError(f"{entry.of} failed, so that there is nothing to compare its output with.")
        self._parities[name] = compare(outputs[entry.of], outputs[name])

    def read_settings(self, engine: MeasuredEngine) -> None:
        """Ask a program for its settings."""
        if engine.file.name in self._entries:
            self._settings[engine.file.name] = engine.process.ask(Session.settings)

    def result(self, engine: MeasuredEngine, latency: Latency) -> ProgramResult | None:
        """Return what the report says of a program besides figures; None for our own engines."""
        entry = self._entries.get(engine.file.name)
        if entry is None:
            return None
        parity = self._parities[engine.file.name]
        settings = self._settings[engine.file.name]
        return ProgramResult(
            library=entry.open_program.library,
            variant=entry.open_program.request.variant,
            of=entry.of,
            settings={name: value for name, value in settings.items() if name != TIMED},
            timed=settings.get(TIMED),
            psnr_to_ours_db=parity.psnr_db,
            largest_difference=parity.max_levels,
            stability=engine.stability(latency),
        )
