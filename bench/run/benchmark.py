"""One benchmark run: load, warm up, time in rounds, read memory, score, cut crops, and put it all into a report."""

import dataclasses
import datetime
import itertools
import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from drc_deploy import __version__, pairs
from drc_deploy.bench.machine.machine import Machine, describe_machine
from drc_deploy.bench.machine.telemetry.instruments import find_instruments
from drc_deploy.bench.machine.telemetry.summary import Telemetry, engine_warnings
from drc_deploy.bench.measure import crops, quality
from drc_deploy.bench.measure.crops import Choice, ErrorMaps
from drc_deploy.bench.measure.engine import OpenEngine
from drc_deploy.bench.measure.image_sets import ImageSet
from drc_deploy.bench.measure.intervals import FEWEST_ROUNDS
from drc_deploy.bench.measure.quality import ImageQuality
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
from drc_deploy.bench.run.engines import Contest, Contestant, Extent
from drc_deploy.bench.run.inputs import Subject, find_subjects
from drc_deploy.bench.run.other_programs import RivalOptions, Rivals
from drc_deploy.bench.run.stopping import GentleStop, Unfinished
from drc_deploy.bench.run.torch_reference import TorchReferences
from drc_deploy.bench.run.watch import OpenInstruments, Watch
from drc_deploy.bench.run.worker import OpenFile
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
    """Other programs to measure beside: names of ``drc_deploy.bench.programs.supported.LIBRARIES``."""
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
    stop: GentleStop | None = None,
) -> Report:
    """Measure and give the report; only the crops are written, into ``options.out``.

    ``stop`` may ask for what was measured so far: whole rounds, and the quality of the first images. A run that is
    killed leaves that too, as ``Unfinished``, which is to be removed once the report is written.

    Raises:
        DrcDeployError: nothing to measure was found, the images cannot be used, or ``options.out`` is not writable.
    """
    subjects = find_subjects(options.engines, options.workdir)
    checkpoints = [subject for subject in subjects if subject.path.suffix == ".safetensors"]
    if options.precision is not None and not checkpoints:
        raise UsageError(
            "--precision is for checkpoints, and no engine here is one.", "Leave it out: exported files have their own."
        )
    check_inputs(options)
    unfinished = Unfinished(options.out)
    unfinished.forget()  # of another run
    entrants = []
    for subject in subjects:
        precision = options.precision if subject in checkpoints else None
        entrants.append((subject, open_engine(subject.path, options.threads, precision)))
    return measure(options, entrants, open_instruments, stop=stop, unfinished=unfinished)


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
    entrants: Sequence[tuple[Subject, OpenEngine]],
    open_instruments: OpenInstruments,
    *,
    with_crops: bool = True,
    stop: GentleStop | None = None,
    unfinished: Unfinished | None = None,
) -> Report:
    """Let engines take turns, and give the report.

    Args:
        options: what to measure.
        entrants: the engines.
        open_instruments: finds what tells power and temperature.
        with_crops: whether parts of the images are written into ``options.out``.
        stop: whether the run is to end early.
        unfinished: where to keep what was measured so far.
    """
    images = ImageSet(options.data, options.lr_folder)
    machine = describe_machine()
    with (
        Watch(open_instruments) as watch,
        Contest(options.case_seconds) as contest,
        closing(TorchReferences(options.workdir, options.threads)) as references,
    ):
        watch.rest()
        for subject, open_engine in entrants:
            contest.enter(subject, open_engine)
        rivals = Rivals(
            RivalOptions(options.against, options.workdir, options.threads, (options.height, options.width))
        )
        rivals.enter(contest)
        beside = Beside(watch, rivals, references, stop or GentleStop(), unfinished)
        return _Campaign(options, contest, images, beside, machine).run(with_crops=with_crops)


@dataclass(frozen=True, slots=True)
class Beside:
    """What takes part in a run beside the engines."""

    watch: Watch
    rivals: Rivals
    references: TorchReferences
    stop: GentleStop
    unfinished: Unfinished | None


class _Campaign:
    """The phases of one run, over the engines that loaded."""

    def __init__(
        self, options: BenchOptions, contest: Contest, images: ImageSet, beside: Beside, machine: Machine
    ) -> None:
        self._options, self._contest, self._images, self._machine = options, contest, images, machine
        self._watch, self._rivals, self._references = beside.watch, beside.rivals, beside.references
        self._stop, self._unfinished = beside.stop, beside.unfinished
        self._rounds, self._images_scored = 0, 0
        self._sources: dict[int, list[PairSource]] = {}
        self._bicubic_rows: dict[int, list[ImageQuality]] = {}
        self._bicubic_maps: dict[int, ErrorMaps] = {}
        self._input_image = ""
        self._faults: list[str] = []
        """Of what is beside the engines, and leaves something out of the report."""

    def run(self, *, with_crops: bool) -> Report:
        """Go through all phases."""
        try:
            return self._run(with_crops=with_crops)
        except BaseException:
            self._keep(at_once=True)
            raise

    def _run(self, *, with_crops: bool) -> Report:
        self._contest.each(self._find_sources)
        with progress("bench", self._step_count()) as bar:
            self._contest.each(partial(self._score_bicubic, bar=bar))
            if self._contest.active:
                self._time(bar)
            self._watch.stop()
            self._score(bar)
        self._keep(at_once=True)  # what follows is not worth the loss of what is there
        strips = tuple(strip for scale in self._scales() for strip in self._cut_crops(scale)) if with_crops else ()
        self._profile_layers()
        stopped = self._told_of_end("was stopped") if self._stop.asked else ()
        return self._report(self._watch.telemetry(), strips, stopped)

    def _scales(self) -> list[int]:
        return sorted({contestant.scale for contestant in self._contest.active})

    def _report(self, telemetry: Telemetry | None, strips: tuple[CropStrip, ...], warnings: tuple[str, ...]) -> Report:
        machine = self._machine
        engines = tuple(self._result(contestant, telemetry) for contestant in self._contest.active)
        return Report(
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            version=__version__,
            summary=conclusions.summarise(conclusions.own_engines(engines)),
            warnings=warnings
            + tuple(self._faults)
            + self._changed_files()
            + conclusions.find_warnings(engines, machine.load_average, machine.logical_cores)
            + _telemetry_warnings(engines),
            machine=machine,
            settings=self._settings(),
            baselines=tuple(self._baseline(scale) for scale in self._scales()),
            engines=engines,
            not_measured=tuple(self._contest.not_measured),
            crops=strips,
            telemetry=telemetry,
            comparisons=conclusions.comparisons(conclusions.own_engines(engines)),
        )

    def _result(self, contestant: Contestant, telemetry: Telemetry | None) -> EngineResult:
        extent = Extent(self._rounds, self._images_scored)
        result = contestant.result((self._options.height, self._options.width), self._machine.board, extent)
        beside = self._watch.engine(telemetry, contestant.rounds, contestant.opened.device) if telemetry else None
        return dataclasses.replace(result, telemetry=beside, peer=self._rivals.result(contestant, result.latency))

    def _changed_files(self) -> tuple[str, ...]:
        names = [contestant.subject.name for contestant in self._contest.active if contestant.file_changed]
        return tuple(f"The file of {name} is another one now: the figures are of the one before." for name in names)

    def _keep(self, *, at_once: bool = False) -> None:
        """Have on disk what was measured so far, but for telemetry, which is read when its sampling has ended."""
        if self._unfinished and self._contest.active and self._rounds:
            at_once = at_once or self._stop.asked
            so_far = partial(self._report, None, (), self._told_of_end("did not come to its end"))
            self._unfinished.keep(so_far, at_once=at_once)

    def _find_sources(self, contestant: Contestant) -> None:
        if contestant.scale not in self._sources:
            self._sources[contestant.scale] = list(self._images.sources(contestant.scale))

    def _step_count(self) -> int:
        """Return how often the progress bar advances when nothing fails."""
        image_counts = {scale: len(sources) for scale, sources in self._sources.items()}
        scored = sum(image_counts.values()) + sum(image_counts[rival.scale] for rival in self._contest.active)
        return len(self._contest.active) * (1 + ROUNDS + STREAM_ROUNDS) + scored

    def _score_bicubic(self, contestant: Contestant, bar: Progress) -> None:
        """Score the baseline of an engine's scale, first of all: it finds unusable images before minutes of timing."""
        scale = contestant.scale
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

        def warm_up(contestant: Contestant) -> None:
            contestant.warm_up(images)
            bar.advance(note=f"warm-up of {contestant.subject.name}")

        def measure_round(contestant: Contestant) -> None:
            contestant.measure_round(images, budget)
            bar.advance(note=f"timing {contestant.subject.name}")

        def measure_stream(contestant: Contestant) -> None:
            contestant.measure_stream(budget.min_seconds)
            bar.advance(note=f"throughput of {contestant.subject.name}")

        self._contest.each(warm_up)
        self._rivals.check(self._contest, self._image)
        self._score_image(0, bar)  # no report is without quality, and there is to be one after each round
        for number in self._until_stopped(range(ROUNDS)):
            self._contest.each(measure_round, backwards=number % 2 == 1)
            self._rounds = number + 1
            self._stop.begin()
            self._keep()
        self._contest.each(self._rivals.read_settings)
        for number in self._until_stopped(range(STREAM_ROUNDS)):
            self._contest.each(measure_stream, backwards=number % 2 == 1)
            self._keep()

    def _until_stopped(self, numbers: range) -> Iterator[int]:
        """Count, or end where the run is to end, but not before 0: of everything there is something in the report."""
        return itertools.takewhile(lambda number: number == 0 or not self._stop.asked, numbers)

    def _latency_inputs(self) -> list[UInt8Image]:
        """Take the LR versions of the first images, at the smallest scale, as large as the options say."""
        scale = min(contestant.scale for contestant in self._contest.active)
        pairs = [source.load(scale) for source in self._sources[scale][:INPUT_IMAGES]]
        self._input_image = ", ".join(pair.name for pair in pairs)
        return [fit_to_size(pair.lr, self._options.height, self._options.width) for pair in pairs]

    def _score(self, bar: Progress) -> None:
        """Compare the engines with torch, then let them take turns with each image, so that all have the same."""
        count = 1 if self._stop.asked else TORCH_IMAGES  # the same for all
        pairs = {scale: _first_pairs(self._sources[scale][:count], scale) for scale in self._scales()}
        self._contest.each(partial(self._measure_fidelity, pairs=pairs))
        try:
            for number in self._until_stopped(range(1, max(map(len, self._sources.values()), default=0))):
                self._score_image(number, bar)
                self._keep()
        except InputError as error:
            self._faults.append(f"Quality is that of the first {self._images_scored} images: {error.message}")

    def _measure_fidelity(self, contestant: Contestant, pairs: Mapping[int, Sequence[Pair]]) -> None:
        contestant.measure_fidelity(pairs[contestant.scale], self._references)

    def _score_image(self, number: int, bar: Progress) -> None:
        """Let all engines upscale an image; it is loaded before, so that a fault of the image is none of theirs."""
        pairs = {
            scale: self._sources[scale][number].load(scale)
            for scale in self._scales()
            if number < len(self._sources[scale])  # another scale may have more
        }

        def score(contestant: Contestant) -> None:
            if contestant.scale in pairs:
                contestant.score(pairs[contestant.scale])
                bar.advance(note=f"quality of {contestant.subject.name}")

        self._contest.each(score)
        self._images_scored = number + 1

    def _told_of_end(self, how: str) -> tuple[str, ...]:
        images = max(map(len, self._sources.values()))
        return (
            f"The run {how}: latencies are of {self._rounds} of {ROUNDS} rounds, quality is that of "
            f"{self._images_scored} of {images} images, and what came after is short or left out.",
        )

    def _cut_crops(self, scale: int) -> list[CropStrip]:
        if self._stop.asked or self._faults:  # not every image has been upscaled
            return []
        choices = crops.choose_crops(self._bicubic_maps[scale], [rival.error_maps for rival in self._own(scale)])
        try:
            return [
                self._cut_crop(choice, scale, number) for number, choice in enumerate(choices) if not self._stop.asked
            ]
        except (InputError, OutputError) as error:
            self._faults.append(f"There are no crops: {error.message}")
            return []

    def _own(self, scale: int) -> list[Contestant]:
        """Return our engines of a scale: another program's image is that of one of them."""
        return [rival for rival in self._contest.active if rival.scale == scale and not rival.opened.peer]

    def _cut_crop(self, choice: Choice, scale: int, number: int) -> CropStrip:
        """Write one crop in every version."""
        source = next(source for source in self._sources[scale] if source.name == choice.image)
        pair = source.load(scale)
        versions = {"LR": crops.cut(pair.lr, choice.box, scale)}
        versions["bicubic"] = crops.cut(quality.upscale_bicubic(scale)(pair.lr), choice.box)

        def upscale(contestant: Contestant) -> None:
            if contestant in self._own(scale):
                versions[contestant.subject.name] = crops.cut(contestant.upscale(pair.lr), choice.box)

        self._contest.each(upscale)
        versions["HR"] = crops.cut(pair.hr, choice.box)
        tiles = []
        for index, (label, image) in enumerate(versions.items()):
            file = f"{CROPS_FOLDER}/x{scale}_{number}_{index}.png"
            crops.write_png(self._options.out / file, image)
            psnr = None if label in ("LR", "HR") else crops.crop_psnr(versions["HR"], image)
            tiles.append(CropVersion(label, file, psnr))
        return CropStrip(choice.title, choice.image, scale, choice.box, tuple(tiles))

    def _profile_layers(self) -> None:
        with progress("layers", len(self._contest.active)) as bar:
            for contestant in itertools.takewhile(lambda _: not self._stop.asked, self._contest.active):
                contestant.profile_layers(self._image, self._options.threads)
                bar.advance(note=contestant.subject.name)

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
    """Load pairs, at least one, up to one that cannot be loaded any more: that is told when it is to be scored."""
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
    """Warn of throttling and of energies that are not told apart."""
    told = (engine_warnings(engine.name, engine.telemetry) for engine in engines if engine.telemetry)
    return tuple(sentence for sentences in told for sentence in sentences)
