"""The engines that run against each other: each in its process, and out of the run as soon as it fails."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from drc_deploy.bench.machine.memory import read_shared, split_memory
from drc_deploy.bench.measure.crops import ErrorMaps, error_map
from drc_deploy.bench.measure.engine_timing import EngineRound, StreamRound
from drc_deploy.bench.measure.fidelity import DifferenceSum, ImageDifference, TorchAgreement
from drc_deploy.bench.measure.latency import Latency, summarise
from drc_deploy.bench.measure.layer_times import unknown_layers
from drc_deploy.bench.measure.measurement import Measurement, summarise_network, summarise_streams
from drc_deploy.bench.measure.quality import ImageQuality, score_pair
from drc_deploy.bench.measure.quality import summarise as summarise_quality
from drc_deploy.bench.measure.stability import ConditionsWatch, Stability, judge
from drc_deploy.bench.measure.timing import Round, TimingBudget
from drc_deploy.bench.programs.program_backend import TIMED
from drc_deploy.bench.report.records import EngineResult, NotMeasured, ProgramResult
from drc_deploy.bench.run.inputs import EngineFile
from drc_deploy.bench.run.torch_reference import TorchReferences
from drc_deploy.bench.run.worker import EngineProcess, OpenEngine, Session, StartProcess
from drc_deploy.errors import ArtefactError, DrcDeployError, MissingDependencyError
from drc_deploy.files import sha256_of, version_of
from drc_deploy.images.crops import middle
from drc_deploy.metrics import UInt8Image
from drc_deploy.pairs import Pair
from drc_deploy.runtime.backends.contract import Pixels

ENGINE_PART = 0.25
"""Of a round's time and runs, that the network alone gets in addition."""

SEAM_PX, TORCH_PX = 256, 128
"""Largest sides of the images that are computed in one piece, by the engine and by torch: larger ones take a long time
and might take all memory."""


@dataclass(slots=True)
class ProgramRun:
    """Another program that runs the network of one of our engines."""

    library: str
    variant: str
    of: str
    """The engine's name."""
    settings: dict[str, str] = field(default_factory=dict)
    parity: ImageDifference = field(init=False)
    """How near its output is to our engine's, once they are compared."""

    def result(self, stability: Stability) -> ProgramResult:
        """Return what the report says of it besides figures."""
        return ProgramResult(
            library=self.library,
            variant=self.variant,
            of=self.of,
            settings={name: value for name, value in self.settings.items() if name != TIMED},
            timed=self.settings.get(TIMED),
            psnr_to_ours_db=self.parity.psnr_db,
            largest_difference=self.parity.max_levels,
            stability=stability,
        )


class MeasuredEngine:
    """One engine and what is known about it so far."""

    def __init__(
        self,
        file: EngineFile,
        open_engine: OpenEngine,
        limit_s: float | None,
        start: StartProcess,
        program: ProgramRun | None,
    ) -> None:
        self.file, self.program = file, program
        try:  # before there is a process to end where it fails
            self._version, self._sha256 = version_of(file.path), sha256_of(file.path)
            self._size_bytes = file.path.stat().st_size
        except OSError as error:
            hint = "Leave the file alone while it is measured."
            raise ArtefactError(f"cannot read {file.path}: {error.strerror}.", hint) from error
        self.process = start(open_engine, limit_s)
        self.opened = self.process.ask(Session.describe)
        self.scale = self.opened.info.scale
        self.error_maps: ErrorMaps = {}
        self._watch = ConditionsWatch(self.process.pid)
        self.rounds: list[Round] = []
        self._engine_rounds: list[EngineRound] = []
        self._streams: list[StreamRound] = []
        self._rows: list[ImageQuality] = []
        self._torch: TorchAgreement | None = None
        self._layers = unknown_layers("the run ended before")

    def warm_up(self, images: Sequence[UInt8Image]) -> None:
        """Run until the latency is stable, and take the peaks of memory before anything else can raise them."""
        self._warm_up = self.process.ask(Session.warm_up, images)
        self._memory = self.process.ask(Session.memory)
        if self.program is None:
            self._workload = self.process.ask(Session.prepare_engine, images)

    def measure_round(self, images: Sequence[UInt8Image], budget: TimingBudget) -> None:
        """Time one round from image to image, then, of our own engines, a shorter one of the network alone."""
        with self._watch.round():
            self.rounds.append(self.process.ask(Session.measure, images, budget))
        if self.program:
            return
        shorter = TimingBudget(math.ceil(budget.min_runs * ENGINE_PART), budget.min_seconds * ENGINE_PART)
        self._engine_rounds.append(self.process.ask(Session.measure_engine, shorter))

    def measure_stream(self, min_seconds: float) -> None:
        """Time one stream of images through one of our own engines."""
        if self.program:
            return
        found, self._workers = self.process.ask(Session.stream, min_seconds)
        self._streams.append(found)

    def measure_fidelity(self, pairs: Sequence[Pair], references: TorchReferences) -> None:
        """See what tiles change in an image, and how far the middles of all images are from torch's.

        Nothing of this is done with another program, whose output is compared with ours.
        """
        if self.program:
            return
        self._seam = self.process.ask(Session.seam, middle(pairs[0].lr, SEAM_PX))
        sha256, found = self.opened.info.checkpoint_sha256, DifferenceSum()
        for pair in pairs:
            lr = middle(pair.lr, TORCH_PX)
            reference = references.image(sha256, pair.name, lr)
            if reference is not None:
                found.add(self.upscale(lr), reference)
        difference = found.total() if found.images else None
        self._torch = TorchAgreement(difference, found.images, references.notes[sha256])

    def upscale(self, image: UInt8Image) -> UInt8Image:
        """Return the result for an image."""
        return self.process.ask(Session.upscale, image)

    def kernel(self, image: UInt8Image) -> Pixels | None:
        """Return the blur kernel that a blind engine finds, (k, k) float32; None where its parts are missing."""
        try:
            return self.process.ask(Session.kernel, image)
        except ArtefactError:  # a picture is not worth the loss of what was measured
            return None

    def score(self, pair: Pair) -> None:
        """Upscale one image and score it."""
        result = self.upscale(pair.lr)
        if result.shape != pair.hr.shape:
            raise DrcDeployError(f"it gave {result.shape} for {pair.name}, not {pair.hr.shape}.")
        self._rows.append(score_pair(pair, result, self.scale))
        self.error_maps[pair.name] = error_map(pair.hr, result, self.scale)

    def profile_layers(self, image: UInt8Image, threads: int | None) -> None:
        """Find the time of each layer, last of all: whatever fails here takes nothing from what was measured."""
        try:
            self._layers = self.process.ask(Session.profile_layers, self.file.path, image, threads)
        except DrcDeployError as error:
            self._layers = unknown_layers(error.message)

    @property
    def file_changed(self) -> bool:
        """Whether the file that was loaded is gone, or has another content."""
        try:
            return version_of(self.file.path) != self._version and sha256_of(self.file.path) != self._sha256
        except OSError:
            return True

    def read_settings(self) -> None:
        """Ask another program for its settings."""
        if self.program:
            self.program.settings = self.process.ask(Session.settings)

    def result(self, size: tuple[int, int], board: str | None, rounds: int, images: int) -> EngineResult:
        """Return what was measured in the ``rounds`` and on the ``images`` that all engines have, at least one of each.

        What goes beyond latency, memory and quality is in the result once all of that is there. ``size`` is height and
        width of the images that were timed, and ``board`` the name of the machine.
        """
        latency = summarise([timed.samples_ms for timed in self.rounds[:rounds]], self._warm_up.calls_per_run)
        stability = judge(latency, self._watch.rounds[:rounds], settled=self._warm_up.settled)
        return EngineResult(
            name=self.file.name,
            size_bytes=self._size_bytes,
            sha256=self._sha256,
            engine=self.opened.info,
            device=self.opened.device,
            load_ms=self.opened.load_ms,
            warm_up=self._warm_up,
            latency=latency,
            peak_host_memory=self._memory.host,
            peak_device_memory=self._memory.device,
            quality=summarise_quality(self._rows[:images]),
            layers=self._layers,
            measurement=self._measurement(latency, stability, size, board),
            program=self.program.result(stability) if self.program else None,
        )

    def _measurement(
        self, latency: Latency, stability: Stability, size: tuple[int, int], board: str | None
    ) -> Measurement | None:
        if self._torch is None:
            return None
        memory, output_px = self._memory, size[0] * size[1] * self.scale**2
        shared = read_shared(memory.system_growth, board, self.opened.device)
        return Measurement(
            engine_only=summarise_network(self._workload, self._engine_rounds, latency),
            throughput=summarise_streams(self._streams, output_px, self._workers),
            stability=stability,
            memory=split_memory(memory.plan, memory.device, shared),
            torch=self._torch,
            seam=self._seam,
        )


class Engines:
    """All engines of one run. Each may take ``limit_s`` seconds, or any time, in a process that ``start`` starts."""

    def __init__(self, limit_s: float | None = None, start: StartProcess = EngineProcess) -> None:
        self._limit_s, self._start = limit_s, start
        self.active: list[MeasuredEngine] = []
        self.not_measured: list[NotMeasured] = []

    def enter(self, file: EngineFile, open_engine: OpenEngine, program: ProgramRun | None = None) -> None:
        """Load an engine; one that this machine cannot run is skipped, a damaged one has failed."""
        try:
            self.active.append(MeasuredEngine(file, open_engine, self._limit_s, self._start, program))
        except MissingDependencyError as error:
            self.leave_out(file.name, "skipped", error)
        except DrcDeployError as error:
            self.leave_out(file.name, "failed", error)

    def leave_out(self, name: str, kind: Literal["failed", "skipped"], error: DrcDeployError) -> None:
        """Report an engine as not measured."""
        self.not_measured.append(NotMeasured(name, kind, error.message, error.hint))

    def each(self, action: Callable[[MeasuredEngine], None], *, backwards: bool = False) -> None:
        """Do something with every engine that is still in the run; where it fails, the others go on."""
        for engine in self.active[::-1] if backwards else self.active[:]:
            try:
                action(engine)
            except DrcDeployError as error:
                engine.process.close()
                self.active.remove(engine)
                self.leave_out(engine.file.name, "failed", error)

    def close(self) -> None:
        """End all processes."""
        for engine in self.active:
            engine.process.close()
