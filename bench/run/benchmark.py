"""One benchmark run: load, warm up, time in rounds, read memory, score, cut crops, and put it all into a report."""

import dataclasses
import datetime
import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from drc_deploy import __version__, pairs
from drc_deploy.bench.machine.machine import Machine, describe_machine
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
    Report,
    Settings,
)
from drc_deploy.bench.run.engines import Engines, Extent, MeasuredEngine
from drc_deploy.bench.run.inputs import EngineFile, find_engine_files
from drc_deploy.bench.run.kept import UNFINISHED_FILE, KeptReport
from drc_deploy.bench.run.other_programs import OtherPrograms, ProgramOptions
from drc_deploy.bench.run.torch_reference import TorchReferences
from drc_deploy.bench.run.watch import OpenInstruments, Watch
from drc_deploy.bench.run.worker import EngineProcess, OpenEngine, OpenFile, StartProcess
from drc_deploy.engine_info import Precision
from drc_deploy.errors import InputError, OutputError, UsageError
from drc_deploy.files import check_writable
from drc_deploy.images.crops import fit_to_size
from drc_deploy.metrics import UInt8Image
from drc_deploy.pairs import Pair, PairSource
from drc_deploy.progress import Progress, progress

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


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure, and how long."""

    engines: tuple[str, ...]
    """Names or files; none means everything in the work folder."""
    workdir: Path
    out: Path
    data: Path | None
    lr_folder: str | None
    height: int
    width: int
    min_runs: int
    min_seconds: float
    threads: int | None
    precision: Precision | None = None
    """In which the checkpoints among the engines are computed; None: fp32."""
    against: tuple[str, ...] = ()
    """Other programs to measure too: names of ``drc_deploy.bench.programs.supported.LIBRARIES``."""
    case_seconds: float | None = None
    """The most that an engine may take, loading and quality included; None: no limit."""

    @property
    def command(self) -> str:
        """Return the command line that repeats the run."""
        words = ["drc-deploy", "bench", *self.engines, "--workdir", str(self.workdir), "--out", str(self.out)]
        words += ["--data", str(self.data)] if self.data else []
        words += ["--lr-dir", self.lr_folder] if self.lr_folder else []
        words += ["--size", f"{self.height}x{self.width}"]
        words += ["--min-runs", str(self.min_runs), "--min-seconds", f"{self.min_seconds:g}"]
        words += ["--threads", str(self.threads)] if self.threads else []
        words += ["--precision", self.precision] if self.precision else []
        words += [word for name in self.against for word in ("--against", name)]
        words += ["--case-seconds", f"{self.case_seconds:g}"] if self.case_seconds else []
        return shlex.join(words)


OpenEngineOf = Callable[[Path, int | None, Precision | None], OpenEngine]


def run_bench(
    options: BenchOptions,
    open_engine: OpenEngineOf = OpenFile,
    open_instruments: OpenInstruments = find_instruments,
    start: StartProcess = EngineProcess,
    kept: KeptReport | None = None,
) -> Report:
    """Measure and return the report.

    Into ``options.out`` go the crops and, as the run goes on, the report so far. The caller removes the latter.

    Args:
        options: what to measure.
        open_engine: loads an engine.
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
    """Let engines take turns, and return the report.

    Args:
        options: what to measure.
        entrants: the engines.
        open_instruments: finds the sensors of power and temperature.
        kept: gets the report so far, every few seconds and when the run ends early.
        start: starts the process of an engine.
        with_crops: whether parts of the images are written into ``options.out``.
    """
    images = ImageSet(options.data, options.lr_folder)
    machine = describe_machine()
    with (
        Watch(open_instruments) as watch,
        Engines(options.case_seconds, start) as engines,
        closing(TorchReferences(options.workdir, options.threads, start)) as references,
    ):
        watch.rest()
        for file, open_engine in entrants:
            engines.enter(file, open_engine)
        programs = OtherPrograms(
            ProgramOptions(options.against, options.workdir, options.threads, (options.height, options.width))
        )
        programs.enter(engines)
        run = _Run(options, engines, images, machine, Aids(watch, programs, references, kept))
        kept.latest = run.report(with_crops=with_crops)  # also for a Ctrl-C while the engines are closed
        return kept.latest


@dataclass(frozen=True, slots=True)
class Aids:
    """What takes part in a run besides its engines."""

    watch: Watch
    programs: OtherPrograms
    references: TorchReferences
    kept: KeptReport


class _Run:
    """The phases of one run, over the engines that loaded."""

    def __init__(self, options: BenchOptions, engines: Engines, images: ImageSet, machine: Machine, aids: Aids) -> None:
        self._options, self._engines, self._images, self._machine = options, engines, images, machine
        self._watch, self._programs, self._references = aids.watch, aids.programs, aids.references
        self._kept, self._kept_s = aids.kept, -math.inf
        self._rounds, self._images_scored = 0, 0
        self._sources: dict[int, list[PairSource]] = {}
        self._bicubic_rows: dict[int, list[ImageQuality]] = {}
        self._bicubic_maps: dict[int, ErrorMaps] = {}
        self._input_image = ""
        self._fault = ""
        """What left something unmeasured, as it follows a sentence."""
        self._strips: list[CropStrip] = []

    def report(self, *, with_crops: bool) -> Report:
        """Go through all phases, and return what they measured."""
        try:
            self._engines.each(self._find_sources)
            self._measure(with_crops=with_crops)
            self._profile_layers()
        except BaseException:
            self._watch.stop()
            self._keep(self._watch.telemetry())
            raise
        return self._report(self._watch.telemetry(), finished=not self._fault)

    def _measure(self, *, with_crops: bool) -> None:
        """Go through the phases that need images; one that is lost after the timing ends them, and no more."""
        try:
            with progress("bench", self._step_count()) as bar:
                self._engines.each(partial(self._score_bicubic, bar=bar))
                if self._engines.active:
                    self._time(bar)
                self._watch.stop()
                self._score(bar)
            self._keep(self._watch.telemetry())  # what follows is not worth the loss of what is there
            for scale in self._scales() if with_crops else ():
                self._cut_crops(scale)
        except (InputError, OutputError) as error:
            if not self._rounds:
                raise
            self._fault = f": {error.message.rstrip('.')}"

    def _scales(self) -> list[int]:
        return sorted({engine.scale for engine in self._engines.active})

    def _report(self, telemetry: Telemetry | None, *, finished: bool) -> Report:
        machine = self._machine
        engines = tuple(self._result(engine, telemetry) for engine in self._engines.active)
        return Report(
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            version=__version__,
            summary=conclusions.summarise(conclusions.own_engines(engines)),
            warnings=(() if finished else (self._early_end(),))
            + self._changed_files()
            + conclusions.find_warnings(engines, machine.load_average, machine.logical_cores)
            + _telemetry_warnings(engines),
            machine=machine,
            settings=self._settings(),
            baselines=tuple(self._baseline(scale) for scale in self._scales()),
            engines=engines,
            not_measured=tuple(self._engines.not_measured),
            crops=tuple(self._strips),
            telemetry=telemetry,
            comparisons=conclusions.comparisons(conclusions.own_engines(engines)),
        )

    def _result(self, engine: MeasuredEngine, telemetry: Telemetry | None) -> EngineResult:
        extent = Extent(self._rounds, self._images_scored)
        result = engine.result((self._options.height, self._options.width), self._machine.board, extent)
        watched = self._watch.engine(telemetry, engine.rounds, engine.opened.device) if telemetry else None
        return dataclasses.replace(result, telemetry=watched, program=self._programs.result(engine, result.latency))

    def _changed_files(self) -> tuple[str, ...]:
        names = [engine.file.name for engine in self._engines.active if engine.file_changed]
        return tuple(f"The file of {name} is another one now: the figures are of the one before." for name in names)

    def _keep(self, telemetry: Telemetry | None = None) -> None:
        """Keep the report so far: every few seconds, and at once where ``telemetry`` is there, after the timing."""
        early = telemetry is None and time.monotonic() < self._kept_s + KEEP_S
        if self._rounds and self._engines.active and not early:
            with suppress(OutputError):  # a full disk stops no run
                self._kept.keep(self._report(telemetry, finished=False))
            self._kept_s = time.monotonic()

    def _early_end(self) -> str:
        images = max(map(len, self._sources.values()))
        return (
            f"The run ended early{self._fault}. Latencies are of {self._rounds} of {ROUNDS} rounds, quality is of "
            f"{self._images_scored} of {images} images, and later parts are missing."
        )

    def _find_sources(self, engine: MeasuredEngine) -> None:
        if engine.scale not in self._sources:
            self._sources[engine.scale] = list(self._images.sources(engine.scale))

    def _step_count(self) -> int:
        """Return how often the progress bar advances when nothing fails."""
        image_counts = {scale: len(sources) for scale, sources in self._sources.items()}
        scored = sum(image_counts.values()) + sum(image_counts[engine.scale] for engine in self._engines.active)
        return len(self._engines.active) * (1 + ROUNDS + STREAM_ROUNDS) + scored

    def _score_bicubic(self, engine: MeasuredEngine, bar: Progress) -> None:
        """Score the baseline of an engine's scale, first of all: it finds unusable images before minutes of timing."""
        scale = engine.scale
        if scale in self._bicubic_rows:
            return
        rows: list[ImageQuality] = []
        maps: ErrorMaps = {}
        upscale = quality.upscale_bicubic(scale)
        for pair, result in quality.upscaled_pairs(upscale, self._sources[scale], scale):
            rows.append(quality.score_pair(pair, result, scale))
            maps[pair.name] = crops.error_map(pair.hr, result, scale)
            bar.advance(note=f"bicubic x{scale}")
        self._bicubic_rows[scale], self._bicubic_maps[scale] = rows, maps

    def _baseline(self, scale: int) -> Baseline:
        """Return the baseline on the images that the engines were scored on."""
        return Baseline(scale, quality.summarise(self._bicubic_rows[scale][: self._images_scored]))

    def _time(self, bar: Progress) -> None:
        """Warm up, then let the engines take turns."""
        images = self._latency_inputs()
        self._image = images[0]
        budget = TimingBudget(math.ceil(self._options.min_runs / ROUNDS), self._options.min_seconds / ROUNDS)

        def warm_up(engine: MeasuredEngine) -> None:
            engine.warm_up(images)
            bar.advance(note=f"warm-up of {engine.file.name}")

        def measure_round(engine: MeasuredEngine) -> None:
            engine.measure_round(images, budget)
            bar.advance(note=f"timing {engine.file.name}")

        def measure_stream(engine: MeasuredEngine) -> None:
            engine.measure_stream(budget.min_seconds)
            bar.advance(note=f"throughput of {engine.file.name}")

        self._engines.each(warm_up)
        self._programs.check(self._engines, self._image)
        self._engines.each(self._programs.read_settings)
        self._score_image(0, bar)  # no report is without quality, and there is to be one after each round
        for number in range(ROUNDS):
            self._engines.each(measure_round, backwards=number % 2 == 1)
            self._rounds = number + 1
            self._keep()
        self._engines.each(self._programs.read_settings)  # again: trtexec reports what disturbed the timing
        for number in range(STREAM_ROUNDS):
            self._engines.each(measure_stream, backwards=number % 2 == 1)
            self._keep()

    def _latency_inputs(self) -> list[UInt8Image]:
        """Take the LR versions of the first images, at the smallest scale, as large as the options say."""
        scale = min(engine.scale for engine in self._engines.active)
        pairs = [source.load(scale) for source in self._sources[scale][:INPUT_IMAGES]]
        self._input_image = ", ".join(pair.name for pair in pairs)
        return [fit_to_size(pair.lr, self._options.height, self._options.width) for pair in pairs]

    def _score(self, bar: Progress) -> None:
        """Compare the engines with torch, then let them take turns with each image, so that all have the same."""
        pairs = {scale: _first_pairs(self._sources[scale][:TORCH_IMAGES], scale) for scale in self._scales()}
        self._engines.each(partial(self._measure_fidelity, pairs=pairs))
        for number in range(1, max(map(len, self._sources.values()), default=0)):
            self._score_image(number, bar)
            self._keep()

    def _measure_fidelity(self, engine: MeasuredEngine, pairs: Mapping[int, Sequence[Pair]]) -> None:
        engine.measure_fidelity(pairs[engine.scale], self._references)

    def _score_image(self, number: int, bar: Progress) -> None:
        """Let all engines upscale an image; it is loaded before, so that a fault of the image is none of theirs."""
        pairs = {
            scale: self._sources[scale][number].load(scale)
            for scale in self._scales()
            if number < len(self._sources[scale])  # another scale may have more
        }

        def score(engine: MeasuredEngine) -> None:
            if engine.scale in pairs:
                engine.score(pairs[engine.scale])
                bar.advance(note=f"quality of {engine.file.name}")

        self._engines.each(score)
        self._images_scored = number + 1

    def _cut_crops(self, scale: int) -> None:
        choices = crops.choose_crops(self._bicubic_maps[scale], [engine.error_maps for engine in self._own(scale)])
        for number, choice in enumerate(choices):
            self._strips.append(self._cut_crop(choice, scale, number))

    def _own(self, scale: int) -> list[MeasuredEngine]:
        """Return our engines of a scale: another program's image is that of one of them."""
        return [engine for engine in self._engines.active if engine.scale == scale and not engine.opened.other_program]

    def _cut_crop(self, choice: Choice, scale: int, number: int) -> CropStrip:
        """Write one crop in every version."""
        source = next(source for source in self._sources[scale] if source.name == choice.image)
        pair = source.load(scale)
        versions = {"LR": crops.cut(pair.lr, choice.box, scale)}
        versions["bicubic"] = crops.cut(quality.upscale_bicubic(scale)(pair.lr), choice.box)

        def upscale(engine: MeasuredEngine) -> None:
            if engine in self._own(scale):
                versions[engine.file.name] = crops.cut(engine.upscale(pair.lr), choice.box)

        self._engines.each(upscale)
        versions["HR"] = crops.cut(pair.hr, choice.box)
        tiles = []
        for index, (label, image) in enumerate(versions.items()):
            file = f"{CROPS_FOLDER}/x{scale}_{number}_{index}.png"
            crops.write_png(self._options.out / file, image)
            psnr = None if label in ("LR", "HR") else crops.crop_psnr(versions["HR"], image)
            tiles.append(CropVersion(label, file, psnr))
        return CropStrip(choice.title, choice.image, scale, choice.box, tuple(tiles))

    def _profile_layers(self) -> None:
        with progress("layers", len(self._engines.active)) as bar:
            for engine in self._engines.active:
                engine.profile_layers(self._image, self._options.threads)
                bar.advance(note=engine.file.name)

    def _settings(self) -> Settings:
        options = self._options
        return Settings(
            command=options.command,
            height=options.height,
            width=options.width,
            input_image=self._input_image,
            data=self._images.description,
            lr_made_by=self._images.lr_made_by,
            min_runs=options.min_runs,
            min_seconds=options.min_seconds,
            rounds=self._rounds,
            threads=options.threads,
        )


def _first_pairs(sources: Sequence[PairSource], scale: int) -> list[Pair]:
    """Load pairs, at least one, up to one that cannot be loaded any more: scoring reports that one."""
    pairs: list[Pair] = []
    for source in sources:
        try:
            pairs.append(source.load(scale))
        except InputError:
            if not pairs:
                raise
            break
    return pairs


def _telemetry_warnings(engines: Sequence[EngineResult]) -> tuple[str, ...]:
    """Warn of throttling and of energies whose difference is not significant."""
    warnings = (engine_warnings(engine.name, engine.telemetry) for engine in engines if engine.telemetry)
    return tuple(sentence for sentences in warnings for sentence in sentences)
