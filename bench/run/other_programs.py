"""The other programs of one run: which there are, whether they compute the same, and their part of the report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from drc_deploy.bench.measure.latency import Latency
from drc_deploy.bench.programs.parity import Parity, compare, comparison_inputs
from drc_deploy.bench.programs.program_backend import TIMED
from drc_deploy.bench.programs.sources import find_program_input
from drc_deploy.bench.programs.supported import LIBRARIES, OpenProgram, ProgramRequest, missing_parts
from drc_deploy.bench.report.records import NotMeasured, ProgramResult
from drc_deploy.bench.run.engines import Engines, MeasuredEngine
from drc_deploy.bench.run.inputs import BenchOptions, EngineFile
from drc_deploy.bench.run.worker import Session
from drc_deploy.errors import ArtefactError, DrcDeployError
from drc_deploy.metrics import UInt8Image


@dataclass(frozen=True, slots=True)
class _Entry:
    open_program: OpenProgram
    file: EngineFile
    of: str


class OtherPrograms:
    """Those among the engines of a run that other programs compute."""

    def __init__(self, options: BenchOptions) -> None:
        self._options = options
        self._entries: dict[str, _Entry] = {}
        self._parities: dict[str, Parity] = {}
        self._settings: dict[str, dict[str, str]] = {}

    def enter(self, engines: Engines) -> None:
        """Load the networks of all engines in other programs; the same network in the same program once only."""
        ours = list(engines.active)
        for library in dict.fromkeys(self._options.against):
            missing = missing_parts(library)
            if missing:
                reason, hint = f"{', '.join(missing)} is not installed.", LIBRARIES[library].install
                engines.not_measured.append(NotMeasured(library, "skipped", reason, hint))
                continue
            for entry in self._plan(library, ours, engines):
                self._entries[entry.file.name] = entry
                engines.enter(entry.file, entry.open_program)

    def _plan(self, library: str, ours: Sequence[MeasuredEngine], engines: Engines) -> Iterator[_Entry]:
        program, options, seen = LIBRARIES[library], self._options, set[Path]()
        for engine in ours:
            name = engine.file.name
            try:
                path = find_program_input(program.source, engine.file.path, engine.opened.info, options.workdir)
            except ArtefactError as error:
                engines.leave_out(f"{name} ({library})", "skipped", error)
                continue
            if path.resolve() not in seen:
                seen.add(path.resolve())
                request = ProgramRequest(path, options.threads, (options.height, options.width))
                for variant in program.variants():
                    file = EngineFile(f"{name} ({library} {variant})", path)
                    yield _Entry(OpenProgram(library, variant, request), file, name)

    def check(self, engines: Engines, image: UInt8Image) -> None:
        """Take out of the run every program whose output differs from our engine's."""
        if not self._entries:
            return
        inputs, outputs = comparison_inputs(image), {}
        compared = self._entries.keys() | {entry.of for entry in self._entries.values()}

        def upscale(engine: MeasuredEngine) -> None:
            if engine.file.name in compared:
                outputs[engine.file.name] = [engine.upscale(part) for part in inputs]

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
        name = engine.file.name
        entry = self._entries.get(name)
        if entry is None:
            return None
        return ProgramResult(
            library=entry.open_program.library,
            variant=entry.open_program.variant,
            of=entry.of,
            settings={key: value for key, value in self._settings[name].items() if key != TIMED},
            timed=self._settings[name].get(TIMED),
            psnr_to_ours_db=self._parities[name].psnr_db,
            largest_difference=self._parities[name].largest_difference,
            stability=engine.stability(latency),
        )
