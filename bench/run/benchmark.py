"""One benchmark run: load, warm up, time in rounds, read memory, score, cut crops, and put it all into a report."""

import dataclasses
import datetime
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from drc_deploy import __version__, pairs
from drc_deploy.bench.machine.telemetry.instruments import find_instruments
from drc_deploy.bench.machine.telemetry.summary import Telemetry, engine_warnings
from drc_deploy.bench.measure import crops, quality
from drc_deploy.bench.measure.crops import Choice, ErrorMaps
from drc_deploy.bench.measure.intervals import FEWEST_ROUNDS
from drc_deploy.bench.measure.quality import ImageQuality, ImageSet
from drc_deploy.bench.measure.timing import TimingBudget
from drc_deploy.bench.report import conclusions
from drc_deploy.bench.report.records import (
    CROPS_FOLDER,
    Baseline,
    CropStrip,
    CropVersion,
    EngineResult,
    KernelPicture,
    Report,
    Settings,
)
from drc_deploy.bench.report.report_files import UNFINISHED_FILE, KeptReport
from drc_deploy.bench.run.engines import Engines, MeasuredEngine
from drc_deploy.bench.run.inputs import BenchOptions, EngineFile, find_engine_files
from drc_deploy.bench.run.other_programs import check_programs, enter_programs
from drc_deploy.bench.run.torch_reference import TorchReferences
from drc_deploy.bench.run.watch import OpenInstruments, Watch
from drc_deploy.bench.run.worker import EngineProcess, OpenEngine, StartProcess, open_file
from drc_deploy.engine_info import Precision
from drc_deploy.errors import InputError, OutputError, UsageError
from drc_deploy.files import check_writable
from drc_deploy.images.blur import Blur, find_blurs, kernel_picture
from drc_deploy.images.crops import fit_to_size
from drc_deploy.metrics import UInt8Image, kernel_error
from drc_deploy.pairs import Pair, PairSource
from drc_deploy.progress import Progress, progress
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.machine.machine import Machine, describe_machine

ROUNDS = 8
"""The engines take turns so many times, so that a machine that slows down slows down all of them alike.

Every other time in the reverse order, or a machine that slows down steadily would always slow down the last one most.
"""
STREAM_ROUNDS = FEWEST_ROUNDS
KEEP_S = 10.0
"""Between two versions of the report so far: to summarise all rounds and write them takes less than a hundredth."""
TORCH_IMAGES = 5
"""Torch on a CPU is slow, and an engine that is wrong is wrong on the first image."""
INPUT_IMAGES = 4
"""Different images take turns: caches and branches are not to know the one that comes."""

OpenEngineOf = Callable[[Path, int | None, Precision | None], OpenEngine]


def run_bench(
    options: BenchOptions,
    open_engine: OpenEngineOf = open_file,
    open_instruments: OpenInstruments = find_instruments,
    start: StartProcess = EngineProcess,
    kept: KeptReport | None = None,
) -> Report:
    """Measure and return the report.

    Into ``options.out`` go the crops and, as the run goes on, the report so far. The caller removes the latter.

    Args:
        options: what to measure.
        open_engine: returns what loads an engine.
        open_instruments: finds the sensors of power and temperature.
        start: starts the process of an engine.
        kept: has the report so far when the run is stopped or fails; None: ``unfinished.json``.

    Raises:
        DrcDeployError: nothing to measure was found, the images cannot be used, or ``options.out`` is not writable.
    """
    files = find_engine_files(options.engines, options.workdir)
    checkpoints = [file for file in files if file.path.suffix == ".safetensors"]
    if options.precision is not None and not checkpoints:
        raise UsageError(
            "--precision is for checkpoints, and no engine here is one.", "Leave it out: exported files have their own."
        )
    check_inputs(options)
    kept = kept or KeptReport(options.out / UNFINISHED_FILE)
    kept.forget()  # of another run
    entrants = []
    for file in files:
        precision = options.precision if file in checkpoints else None
        entrants.append((file, open_engine(file.path, options.threads, precision)))
    return measure(options, entrants, open_instruments, kept, start)


def check_inputs(options: BenchOptions) -> None:
    """Find out, before minutes of measuring, whether the images are there and the report can be written.

    Raises:
        DrcDeployError: one of them is not so.
    """
    if options.data is not None:
        pairs.find_images(options.data, pairs.HR_FOLDER)
    check_writable(options.out)


def measure(
    options: BenchOptions,
    entrants: Sequence[tuple[EngineFile, OpenEngine]],
    open_instruments: OpenInstruments,
    kept: KeptReport,
    start: StartProcess = EngineProcess,
    *,
    with_crops: bool = True,
) -> Report:
    """Let the ``entrants`` take turns, and return the report; crops of the images go into ``options.out``.

    ``kept`` gets the report so far, every few seconds and when the run ends early.
    """
    machine = describe_machine()
    watch = Watch(open_instruments)
    with (
        watch,
        closing(Engines(options.case_seconds, start)) as engines,
        closing(TorchReferences(options.workdir, options.threads, start)) as references,
    ):
        watch.rest()
        for file, open_engine in entrants:
            engines.enter(file, open_engine)
        enter_programs(options, engines)
        images = ImageSet(options.data, options.lr_folder)
        run = _Run(options, machine, watch, engines, references, kept, images)
        kept.latest = run.report(with_crops=with_crops)  # also for a Ctrl-C while the engines are closed
        return kept.latest


@dataclass(slots=True)
class _Run:
    """The phases of one run, over the engines that loaded."""

    options: BenchOptions
    machine: Machine
    watch: Watch
    engines: Engines
    references: TorchReferences
    kept: KeptReport
    images: ImageSet
    kept_s: float = -math.inf
    rounds: int = 0
    images_scored: int = 0
    sources: dict[int, list[PairSource]] = field(default_factory=dict)
    """By scale, as the three that follow."""
    bicubic_rows: dict[int, list[ImageQuality]] = field(default_factory=dict)
    bicubic_maps: dict[int, ErrorMaps] = field(default_factory=dict)
    blurs: dict[int, dict[str, Blur] | None] = field(default_factory=dict)
    """What the images were blurred with, where blind engines are there; None where it is not known."""
    inputs: list[UInt8Image] = field(default_factory=list)
    """The images that are timed."""
    input_image: str = ""
    fault: str = ""
    """What left something unmeasured, as it follows a sentence."""
    strips: list[CropStrip] = field(default_factory=list)

    def report(self, *, with_crops: bool) -> Report:
        """Go through all phases, and return what they measured."""
        try:
            self.engines.each(self._find_sources)
            self._measure(with_crops=with_crops)
            self._profile_layers()
        except BaseException:
            self.watch.stop()
            self._keep(self.watch.telemetry())
            raise
        return self._report(self.watch.telemetry(), finished=not self.fault)

    def _measure(self, *, with_crops: bool) -> None:
        """Go through the phases that need images; one that is lost after the timing ends them, and no more."""
        try:
            with progress("bench", self._step_count()) as bar:
                self.engines.each(partial(self._score_bicubic, bar=bar))
                if self.engines.active:
                    self._time(bar)
                self.watch.stop()
                self._score(bar)
            self._keep(self.watch.telemetry())  # what follows is not worth the loss of what is there
            for scale in self._scales() if with_crops else ():
                self._cut_crops(scale)
        except (InputError, OutputError) as error:
            if not self.rounds:
                raise
            self.fault = f": {error.message.rstrip('.')}"

    def _scales(self) -> list[int]:
        return sorted({engine.scale for engine in self.engines.active})

    def _report(self, telemetry: Telemetry | None, *, finished: bool) -> Report:
        engines = tuple(self._result(engine, telemetry) for engine in self.engines.active)
        own = conclusions.own_engines(engines)
        return Report(
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            version=__version__,
            summary=conclusions.summarise(own),
            warnings=tuple(self._warnings(engines, finished=finished)),
            machine=self.machine,
            settings=self._settings(),
            # On the images that the engines were scored on.
            baselines=tuple(
                Baseline(scale, quality.summarise(self.bicubic_rows[scale][: self.images_scored]))
                for scale in self._scales()
            ),
            engines=engines,
            not_measured=tuple(self.engines.not_measured),
            crops=tuple(self.strips),
            telemetry=telemetry,
            comparisons=conclusions.comparisons(own),
        )

    def _result(self, engine: MeasuredEngine, telemetry: Telemetry | None) -> EngineResult:
        size = self.options.height, self.options.width
        result = engine.result(size, self.machine.board, self.rounds, self.images_scored)
        watched = self.watch.engine(telemetry, engine.rounds, engine.opened.device) if telemetry else None
        return dataclasses.replace(result, telemetry=watched)

    def _warnings(self, engines: Sequence[EngineResult], *, finished: bool) -> Iterator[str]:
        if not finished:
            images = max(map(len, self.sources.values()))
            yield (
                f"The run ended early{self.fault}. Latencies are of {self.rounds} of {ROUNDS} rounds, quality is of "
                f"{self.images_scored} of {images} images, and later parts are missing."
            )
        for engine in self.engines.active:
            if engine.file_changed:
                yield f"The file of {engine.file.name} is another one now: the figures are of the one before."
        yield from conclusions.find_warnings(engines, self.machine.load_average, self.machine.logical_cores)
        for result in engines:
            if result.telemetry:
                yield from engine_warnings(result.name, result.telemetry)

    def _keep(self, telemetry: Telemetry | None = None) -> None:
        """Keep the report so far: every few seconds, and at once where ``telemetry`` is there, after the timing."""
        early = telemetry is None and time.monotonic() < self.kept_s + KEEP_S
        if self.rounds and self.engines.active and not early:
            with suppress(OutputError):  # a full disk stops no run
                self.kept.keep(self._report(telemetry, finished=False))
            self.kept_s = time.monotonic()

    def _find_sources(self, engine: MeasuredEngine) -> None:
        if engine.scale not in self.sources:
            self.sources[engine.scale] = list(self.images.sources(engine.scale))
        scale, data = engine.scale, self.options.data
        if engine.opened.info.kernel_size is None or engine.program or scale in self.blurs:
            return
        names = [source.name for source in self.sources[scale]]
        usual = self.options.lr_folder in (None, f"LRx{scale}")  # kernels are of these images
        self.blurs[scale] = find_blurs(data, scale, names) if data and usual else None

    def _step_count(self) -> int:
        """Return how often the progress bar advances when nothing fails."""
        scored = sum(map(len, self.sources.values())) + sum(len(self.sources[one.scale]) for one in self.engines.active)
        return len(self.engines.active) * (1 + ROUNDS + STREAM_ROUNDS) + scored

    def _score_bicubic(self, engine: MeasuredEngine, bar: Progress) -> None:
        """Score the baseline of an engine's scale, first of all: it finds unusable images before minutes of timing."""
        scale = engine.scale
        if scale in self.bicubic_rows:
            return
        rows: list[ImageQuality] = []
        maps: ErrorMaps = {}
        for pair, result in quality.upscaled_pairs(quality.upscale_bicubic(scale), self.sources[scale], scale):
            rows.append(quality.score_pair(pair, result, scale))
            maps[pair.name] = crops.error_map(pair.hr, result, scale)
            bar.advance(note=f"bicubic x{scale}")
        self.bicubic_rows[scale], self.bicubic_maps[scale] = rows, maps

    def _time(self, bar: Progress) -> None:
        """Warm up, then let the engines take turns."""
        self._load_inputs()
        budget = TimingBudget(math.ceil(self.options.min_runs / ROUNDS), self.options.min_seconds / ROUNDS)

        def each(title: str, action: Callable[[MeasuredEngine], None], number: int = 0) -> None:
            def step(engine: MeasuredEngine) -> None:
                action(engine)
                bar.advance(note=f"{title} {engine.file.name}")

            self.engines.each(step, backwards=number % 2 == 1)

        each("warm-up of", lambda engine: engine.warm_up(self.inputs))
        check_programs(self.engines, self.inputs[0])
        self.engines.each(MeasuredEngine.read_settings)
        self._score_image(0, bar)  # no report is without quality, and there is to be one after each round
        for number in range(ROUNDS):
            each("timing", lambda engine: engine.measure_round(self.inputs, budget), number)
            self.rounds = number + 1
            self._keep()
        self.engines.each(MeasuredEngine.read_settings)  # again: trtexec reports what disturbed the timing
        for number in range(STREAM_ROUNDS):
            each("throughput of", lambda engine: engine.measure_stream(budget.min_seconds), number)
            self._keep()

    def _load_inputs(self) -> None:
        """Take the LR versions of the first images, at the smallest scale, as large as the options say."""
        scale = min(self._scales())
        pairs = [source.load(scale) for source in self.sources[scale][:INPUT_IMAGES]]
        self.input_image = ", ".join(pair.name for pair in pairs)
        self.inputs = [fit_to_size(pair.lr, self.options.height, self.options.width) for pair in pairs]

    def _score(self, bar: Progress) -> None:
        """Compare the engines with torch, then let them take turns with each image, so that all have the same."""
        pairs = {scale: _first_pairs(self.sources[scale][:TORCH_IMAGES], scale) for scale in self._scales()}
        self.engines.each(lambda engine: engine.measure_fidelity(pairs[engine.scale], self.references))
        for number in range(1, max(map(len, self.sources.values()), default=0)):
            self._score_image(number, bar)
            self._keep()

    def _score_image(self, number: int, bar: Progress) -> None:
        """Let all engines upscale an image; it is loaded before, so that a fault of the image is none of theirs."""
        pairs = {
            scale: self.sources[scale][number].load(scale)
            for scale in self._scales()
            if number < len(self.sources[scale])  # another scale may have more
        }

        def score(engine: MeasuredEngine) -> None:
            if engine.scale in pairs:
                engine.score(pairs[engine.scale])
                bar.advance(note=f"quality of {engine.file.name}")

        self.engines.each(score)
        self.images_scored = number + 1

    def _cut_crops(self, scale: int) -> None:
        # Another program's image is that of one of our engines.
        own = [one for one in self.engines.active if one.scale == scale and not one.program]
        choices = crops.choose_crops(self.bicubic_maps[scale], [engine.error_maps for engine in own])
        for number, choice in enumerate(choices):
            self.strips.append(self._cut_crop(choice, scale, own, f"{CROPS_FOLDER}/x{scale}_{number}"))

    def _cut_crop(self, choice: Choice, scale: int, own: Sequence[MeasuredEngine], stem: str) -> CropStrip:
        """Write one crop in every version, into files that begin with ``stem``."""
        source = next(source for source in self.sources[scale] if source.name == choice.image)
        pair = source.load(scale)
        versions = {"LR": crops.cut(pair.lr, choice.box, scale)}
        versions["bicubic"] = crops.cut(quality.upscale_bicubic(scale)(pair.lr), choice.box)

        def upscale(engine: MeasuredEngine) -> None:
            if engine in own:
                versions[engine.file.name] = crops.cut(engine.upscale(pair.lr), choice.box)

        self.engines.each(upscale)
        versions["HR"] = crops.cut(pair.hr, choice.box)
        tiles = []
        for index, (label, image) in enumerate(versions.items()):
            file = f"{stem}_{index}.png"
            crops.write_png(self.options.out / file, image)
            psnr = None if label in ("LR", "HR") else crops.crop_psnr(versions["HR"], image)
            tiles.append(CropVersion(label, file, psnr))
        kernels = self._picture_kernels(pair, scale, f"{stem}_kernel")
        return CropStrip(choice.title, choice.image, scale, choice.box, tuple(tiles), kernels)

    def _picture_kernels(self, pair: Pair, scale: int, stem: str) -> tuple[KernelPicture, ...]:
        """Write pictures of the kernel of an image and of what the blind engines take it for; none where unknown."""
        known = self.blurs.get(scale)
        if not known:
            return ()
        found: dict[str, Pixels] = {}

        def ask(engine: MeasuredEngine) -> None:
            blind = engine.scale == scale and engine.opened.info.kernel_size and not engine.program
            kernel = engine.kernel(pair.lr) if blind else None
            if kernel is not None:
                found[engine.file.name] = kernel

        self.engines.each(ask)
        pictures: list[KernelPicture] = []
        for label, kernel in found.items():
            truth = known[pair.name].as_lr_kernel(len(kernel))
            if not pictures:
                crops.write_png(self.options.out / f"{stem}_0.png", kernel_picture(truth))
                pictures.append(KernelPicture("true", f"{stem}_0.png", None))
            file = f"{stem}_{len(pictures)}.png"
            crops.write_png(self.options.out / file, kernel_picture(kernel))
            pictures.append(KernelPicture(label, file, kernel_error(kernel, truth)))
        return tuple(pictures)

    def _profile_layers(self) -> None:
        with progress("layers", len(self.engines.active)) as bar:
            for engine in self.engines.active:
                engine.profile_layers(self.inputs[0], self.options.threads)
                bar.advance(note=engine.file.name)

    def _settings(self) -> Settings:
        options = self.options
        return Settings(
            command=options.command,
            height=options.height,
            width=options.width,
            input_image=self.input_image,
            data=self.images.description,
            lr_made_by=self.images.lr_made_by,
            min_runs=options.min_runs,
            min_seconds=options.min_seconds,
            rounds=self.rounds,
            threads=options.threads,
        )


def _first_pairs(sources: Sequence[PairSource], scale: int) -> list[Pair]:
    """Load pairs up to one that cannot be loaded any more, which scoring reports; the first must be there."""
    pairs = [sources[0].load(scale)]
    with suppress(InputError):
        for source in sources[1:]:
            pairs.append(source.load(scale))
    return pairs
