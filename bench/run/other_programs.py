"""The peers of one run: which there are, whether they compute the same, and what the report says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from drc_deploy.bench.measure.latency import Latency
from drc_deploy.bench.programs.parity import Parity, compare, comparison_inputs
from drc_deploy.bench.programs.program_upscaler import TIMED
from drc_deploy.bench.programs.sources import find_program_input
from drc_deploy.bench.programs.supported import LIBRARIES, OpenPeer, ProgramRequest, missing_parts
from drc_deploy.bench.report.records import NotMeasured, PeerResult
from drc_deploy.bench.run.engines import Contest, Contestant
from drc_deploy.bench.run.inputs import Subject
from drc_deploy.bench.run.worker import Session
from drc_deploy.errors import ArtefactError, DrcDeployError
from drc_deploy.metrics import UInt8Image


@dataclass(frozen=True, slots=True)
class RivalOptions:
    """What to measure beside our engines."""

    against: tuple[str, ...]
    """Names of ``LIBRARIES``."""
    workdir: Path
    threads: int | None
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Entry:
    open_peer: OpenPeer
    subject: Subject
    of: str


class Rivals:
    """Peers among the contestants of a run."""

    def __init__(self, options: RivalOptions) -> None:
        self._options = options
        self._entries: dict[str, _Entry] = {}
        self._parities: dict[str, Parity] = {}
        self._settings: dict[str, dict[str, str]] = {}

    def enter(self, contest: Contest) -> None:
        """Load every peer of the engines that have loaded; the same network in the same program once only."""
        ours = list(contest.active)
        for library in dict.fromkeys(self._options.against):
            missing = missing_parts(library)
            if missing:
                reason, hint = f"{', '.join(missing)} is not installed.", LIBRARIES[library].install
                contest.not_measured.append(NotMeasured(library, "skipped", reason, hint))
                continue
            for entry in self._plan(library, ours, contest.not_measured):
                self._entries[entry.subject.name] = entry
                contest.enter(entry.subject, entry.open_peer)

    def _plan(self, library: str, ours: Sequence[Contestant], not_measured: list[NotMeasured]) -> list[_Entry]:
        entries: dict[Path, list[_Entry]] = {}
        for contestant in ours:
            engine = contestant.subject
            try:
                path = find_program_input(
                    LIBRARIES[library].source, engine.path, contestant.opened.info, self._options.workdir
                )
            except ArtefactError as error:
                name = f"{engine.name} ({library})"
                not_measured.append(NotMeasured(name, "skipped", error.message, error.hint))
                continue
            request = ProgramRequest(path, self._options.threads, self._options.size)
            entries.setdefault(
                path.resolve(),
                [
                    _Entry(
                        OpenPeer(library, variant, request),
                        Subject(f"{engine.name} ({library} {variant})", path),
                        engine.name,
                    )
                    for variant in LIBRARIES[library].variants()
                ],
            )
        return [entry for variants in entries.values() for entry in variants]

    def check(self, contest: Contest, image: UInt8Image) -> None:
        """Put out of the run every peer whose output is not that of our engine."""
        if not self._entries:
            return
        inputs, outputs = comparison_inputs(image), {}
        compared_with = {entry.of for entry in self._entries.values()}

        def upscale(contestant: Contestant) -> None:
            name = contestant.subject.name
            if name in compared_with or name in self._entries:
                outputs[name] = [contestant.upscale(part) for part in inputs]

        contest.each(upscale)
        contest.each(partial(self._check_one, outputs=outputs))

    def _check_one(self, contestant: Contestant, outputs: dict[str, list[UInt8Image]]) -> None:
        name = contestant.subject.name
        entry = self._entries.get(name)
        if entry is None:
            return
        if entry.of not in outputs:
            raise DrcDeployError(f"{entry.of} failed, so that there is nothing to compare its output with.")
        self._parities[name] = compare(outputs[entry.of], outputs[name])

    def read_settings(self, contestant: Contestant) -> None:
        """Ask a peer how it is set, after the timing: some tell what they noticed in it."""
        if contestant.subject.name in self._entries:
            self._settings[contestant.subject.name] = contestant.process.ask(Session.settings)

    def result(self, contestant: Contestant, latency: Latency) -> PeerResult | None:
        """Return what the report says beside the figures, among them ``latency``; None for our own engines."""
        entry = self._entries.get(contestant.subject.name)
        if entry is None:
            return None
        parity = self._parities[contestant.subject.name]
        settings = self._settings.get(contestant.subject.name, {})  # none where the run ended before
        return PeerResult(
            library=entry.open_peer.library,
            variant=entry.open_peer.variant,
            of=entry.of,
            settings={name: value for name, value in settings.items() if name != TIMED},
            timed=settings.get(TIMED),
            psnr_to_ours_db=parity.psnr_db,
            largest_difference=parity.largest_difference,
            stability=contestant.stability(latency),
        )
