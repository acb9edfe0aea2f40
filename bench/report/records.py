"""The result of one benchmark run: everything that the page shows, and every raw sample."""

from dataclasses import dataclass
from typing import Literal

from drc_deploy.bench.machine.memory import Reading
from drc_deploy.bench.machine.telemetry.energy import Energy
from drc_deploy.bench.machine.telemetry.summary import EngineTelemetry, Telemetry
from drc_deploy.bench.measure.latency import Latency, LatencyRatio
from drc_deploy.bench.measure.layer_times import LayerProfile
from drc_deploy.bench.measure.measurement import Measurement
from drc_deploy.bench.measure.quality import Quality
from drc_deploy.bench.measure.stability import Stability
from drc_deploy.bench.measure.timing import WarmUp
from drc_deploy.engine_info import EngineInfo, Precision
from drc_deploy.runtime.machine.machine import Machine

CLOCKS_APART_S = 60.0
"""Clocks that differ by less are as good as equal: the times of a report are given to the second, for people."""


@dataclass(frozen=True, slots=True)
class RemoteOrigin:
    """The machine that measured, as the one that wrote the report knows it."""

    target: str
    """Host as it was given, with the user's name if that was given too."""
    clock_offset_s: float
    """How far its clock was ahead of the clock here."""

    def warnings(self) -> list[str]:
        """Return a sentence for everything that makes the report uncertain."""
        if abs(self.clock_offset_s) < CLOCKS_APART_S:
            return []
        way = "ahead of" if self.clock_offset_s > 0 else "behind"
        return [
            f"The clock of {self.target} is {abs(self.clock_offset_s):.0f} s {way} the clock here; the report has the "
            "time of this machine."
        ]


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """How another program ran a network, and how near its output is to ours."""

    library: str
    """As it was given to ``--against``."""
    variant: str
    """Which way of running it."""
    of: str
    """The engine of the same report whose network this is."""
    settings: dict[str, str]
    """Version, threads, and what else was set or matters, in words."""
    timed: str | None
    """What a sample of its latency is; None: as for ours, one image from memory to memory."""
    psnr_to_ours_db: float | None
    """PSNR of RGB between its 8-bit output and that of ``of``, over all images compared; None when they are equal."""
    largest_difference: int
    """Between 8-bit samples of the two outputs, 0 to 255."""
    stability: Stability
    """Whether its latency is stable."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way of running an engine file."""

    group: str
    """The cases of one group took turns with each other, those of two groups did not."""
    backend: Literal["default", "cpu"]
    """``default``: what `upscale` takes. ``cpu``: ONNX Runtime's CPU provider, where the default is another one."""
    tile: int | None
    """Largest side of a tile in input pixels; None: as large as the engine and memory allow."""
    batch: int | None
    """Tiles in a call; None: the backend's own choice."""
    precision: Precision | None
    """In which a checkpoint is computed; None: fp32, or what an exported file was exported in."""


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that took turns."""

    name: str
    cases: tuple[str, ...]
    """Their names in the report, measured or not."""
    created: str
    """When it was measured: UTC, ISO 8601."""
    load_average: float | None
    """As it began; see ``Machine.load_average``."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A part of the matrix that is not measured by intention."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Suite:
    """How the cases of a report were planned and measured."""

    name: Literal["matrix"]
    complete: bool
    """Whether every group was measured."""
    groups: tuple[Group, ...]
    left_out: tuple[LeftOut, ...]
    case_seconds: float
    """The most that a case may take, loading and quality included."""
    seconds: float | None
    """After this time no group begins; None: no limit."""


CROPS_FOLDER = "crops"


@dataclass(frozen=True, slots=True)
class Settings:
    """How it was measured."""

    command: str
    """The command line that repeats it."""
    height: int
    width: int
    """Size of the image that latency was measured on, in input pixels."""
    input_image: str
    """Which photograph it is a part of."""
    data: str
    """Where the images for quality come from."""
    lr_made_by: str
    """How their low-resolution versions were made."""
    min_runs: int
    min_seconds: float
    rounds: int
    threads: int | None
    """CPU threads asked for; None left the choice to each library."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Quality of bicubic upscaling at one scale; its speed here would say nothing, so it is not measured."""

    scale: int
    quality: Quality


@dataclass(frozen=True, slots=True)
class EngineResult:
    """One engine, measured from end to end: an 8-bit image in memory to an 8-bit image in memory."""

    name: str
    """How the report calls it: the file name, or the path where two files have the same name."""
    size_bytes: int
    sha256: str
    engine: EngineInfo
    device: str
    """Device that computed, as the library names it."""
    load_ms: float
    """Time to load the file until it could run; the first run is the first of the warm-up."""
    warm_up: WarmUp
    latency: Latency
    peak_host_memory: Reading
    peak_device_memory: Reading
    quality: Quality
    layers: LayerProfile
    """Time of each layer."""
    measurement: Measurement | None
    """Throughput, stability and agreement with torch; None for other programs, and in a run that did not end."""
    telemetry: EngineTelemetry | None = None
    """Power, temperature and throttling during its rounds; None in a run that did not end."""
    program: ProgramResult | None = None
    """How another program ran one of our networks; None for our own engines."""
    case: Case | None = None
    """How a suite ran it; None outside of suites."""

    @property
    def energy(self) -> Energy | None:
        """Return the energy of its rounds; None where it was not measured."""
        return self.telemetry.energy if self.telemetry else None


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """An engine without a result."""

    name: str
    kind: Literal["failed", "skipped"]
    """``skipped``: this machine cannot run it. ``failed``: it should have run and did not."""
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class CropVersion:
    """One version of a crop."""

    label: str
    """``LR``, ``bicubic``, an engine's name, or ``HR``."""
    file: str
    """PNG, relative to the folder of the report."""
    psnr_y: float | None
    """PSNR of this crop in dB; None for LR and HR."""


@dataclass(frozen=True, slots=True)
class KernelPicture:
    """The blur kernel of an image, in LR pixels."""

    label: str
    """``true``, or the engine that found it."""
    file: str
    """PNG, relative to the folder of the report."""
    error: float | None
    """Share of the kernel that lies elsewhere than in the true one (``metrics.kernel_error``); None for that itself."""


@dataclass(frozen=True, slots=True)
class CropStrip:
    """The same part of one image, upscaled in every way."""

    title: str
    """Why this part was chosen."""
    image: str
    scale: int
    box: tuple[int, int, int, int]
    """Top, left, height and width in HR pixels."""
    tiles: tuple[CropVersion, ...]
    kernels: tuple[KernelPicture, ...] = ()
    """Of the whole image, where the true one is known and blind engines were measured."""

    @property
    def files(self) -> tuple[str, ...]:
        """Return the files that it shows."""
        return (*(tile.file for tile in self.tiles), *(kernel.file for kernel in self.kernels))


@dataclass(frozen=True, slots=True)
class Report:
    """``report.json``."""

    created: str
    """UTC, ISO 8601."""
    version: str
    """Of drc-deploy."""
    summary: str
    """The result in one sentence."""
    warnings: tuple[str, ...]
    """What makes these figures less than certain."""
    machine: Machine
    settings: Settings
    baselines: tuple[Baseline, ...]
    engines: tuple[EngineResult, ...]
    not_measured: tuple[NotMeasured, ...]
    crops: tuple[CropStrip, ...]
    telemetry: Telemetry | None
    """Everything sampled during the run; None in suites, and in a run that did not end."""
    comparisons: tuple[LatencyRatio, ...]
    """Each engine against the one with the best image at its scale."""
    suite: Suite | None = None
    """How the cases were planned and grouped; None where all engines took turns."""
    remote: RemoteOrigin | None = None
    """The machine that measured, where that was not the one that wrote this."""

    def baseline(self, scale: int) -> Quality:
        """Return the quality of bicubic upscaling at a scale that an engine was measured at."""
        return next(baseline.quality for baseline in self.baselines if baseline.scale == scale)


@dataclass(frozen=True, slots=True)
class MergedReports:
    """``reports.json``."""

    created: str
    """UTC, ISO 8601."""
    version: str
    """Of drc-deploy, which merged them."""
    reports: tuple[Report, ...]
