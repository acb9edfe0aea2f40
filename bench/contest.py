"""The engines that run against each other: each in its process, and out of the run as soon as it fails."""

from collections.abc import Callable
from types import TracebackType

from drc_deploy.bench.crops import ErrorMaps, error_map
from drc_deploy.bench.latency import summarise
from drc_deploy.bench.layers import not_told
from drc_deploy.bench.quality import ImageQuality, score_pair
from drc_deploy.bench.quality import summarise as summarise_quality
from drc_deploy.bench.report import EngineResult, NotMeasured
from drc_deploy.bench.subjects import Subject
from drc_deploy.bench.timing import Budget, Round
from drc_deploy.bench.worker import EngineProcess, OpenEngine, Session
from drc_deploy.errors import DrcDeployError, MissingDependencyError
from drc_deploy.files import sha256_of
from drc_deploy.metrics import UInt8Image
from drc_deploy.pairs import Pair


class Contestant:
    """One engine and what is known about it so far."""

    def __init__(self, subject: Subject, open_engine: OpenEngine, limit_s: float | None = None) -> None:
        self.subject = subject
        self.process = EngineProcess(open_engine, limit_s)
        self.opened = self.process.ask(Session.describe)
        self.scale = self.opened.info.scale
        self.error_maps: ErrorMaps = {}
        self.rounds: list[Round] = []
        self._rows: list[ImageQuality] = []

    def warm_up(self, image: UInt8Image) -> None:
        """Run until the latency is stable."""
        self._warm_up = self.process.ask(Session.warm_up, image)

    def measure_round(self, image: UInt8Image, budget: Budget) -> None:
        """Time one round."""
        self.rounds.append(self.process.ask(Session.measure, image, budget))

    def read_memory(self) -> None:
        """Take the peaks, which must precede the images for quality: those have other sizes."""
        self._memory = self.process.ask(Session.memory)

    def upscale(self, image: UInt8Image) -> UInt8Image:
        """Give the result for an image."""
        return self.process.ask(Session.upscale, image)

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
            self._layers = self.process.ask(Session.profile_layers, self.subject.path, image, threads)
        except DrcDeployError as error:
            self._layers = not_told(error.message)

    def result(self) -> EngineResult:
        """Give what was measured."""
        return EngineResult(
            name=self.subject.name,
            size_bytes=self.subject.path.stat().st_size,
            sha256=sha256_of(self.subject.path),
            engine=self.opened.info,
            device=self.opened.device,
            load_ms=self.opened.load_ms,
            warm_up=self._warm_up,
            latency=summarise([timed.samples_ms for timed in self.rounds]),
            peak_host_memory=self._memory.host,
            peak_device_memory=self._memory.device,
            quality=summarise_quality(self._rows),
            layers=self._layers,
        )


class Contest:
    """All engines of one run."""

    def __init__(self, limit_s: float | None = None) -> None:
        """Begin without engines; ``limit_s`` is the most seconds that each may take, None for no limit."""
        self._limit_s = limit_s
        self.active: list[Contestant] = []
        self.not_measured: list[NotMeasured] = []

    def enter(self, subject: Subject, open_engine: OpenEngine) -> None:
        """Load an engine; one that this machine cannot run is skipped, a damaged one has failed."""
        try:
            self.active.append(Contestant(subject, open_engine, self._limit_s))
        except MissingDependencyError as error:
            self.not_measured.append(NotMeasured(subject.name, "skipped", error.message, error.hint))
        except DrcDeployError as error:
            self.not_measured.append(NotMeasured(subject.name, "failed", error.message, error.hint))

    def each(self, action: Callable[[Contestant], None]) -> None:
        """Do something with every engine that is still in the run; where it fails, the others go on."""
        for contestant in list(self.active):
            try:
                action(contestant)
            except DrcDeployError as error:
                contestant.process.close()
                self.active.remove(contestant)
                failure = NotMeasured(contestant.subject.name, "failed", error.message, error.hint)
                self.not_measured.append(failure)

    def __enter__(self) -> "Contest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for contestant in self.active:
            contestant.process.close()
