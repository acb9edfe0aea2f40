"""The result of one benchmark run: everything that the page shows, and every raw sample."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drc_deploy import records
from drc_deploy.bench.machine.machine import Machine
from drc_deploy.bench.machine.memory import Reading
from drc_deploy.bench.machine.telemetry.summary import EngineTelemetry, Telemetry
from drc_deploy.bench.measure.head_to_head import Comparison
from drc_deploy.bench.measure.latency import Latency
from drc_deploy.bench.measure.layers import LayerProfile
from drc_deploy.bench.measure.measurement import Measurement
from drc_deploy.bench.measure.quality import Quality
from drc_deploy.bench.measure.timing import WarmUp
from drc_deploy.bench.peers.result import PeerResult
from drc_deploy.bench.remote_origin import RemoteOrigin
from drc_deploy.bench.report_checks import check_report
from drc_deploy.bench.suite.record import Case, Suite
from drc_deploy.engine_info import EngineInfo
from drc_deploy.errors import ArtefactError
from drc_deploy.files import write_text

REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
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
    """What computed, as the library tells."""
    load_ms: float
    """Time to load the file until it could run; the first run is the first of the warm-up."""
    warm_up: WarmUp
    latency: Latency
    peak_host_memory: Reading
    peak_device_memory: Reading
    quality: Quality
    telemetry: EngineTelemetry | None = None
    """Power, temperature and throttling during its rounds; None in reports of older versions."""
    layers: LayerProfile | None = None
    """Time of each layer; None in reports of older versions."""
    peer: PeerResult | None = None
    """How another program ran one of our networks; None for our own engines."""
    case: Case | None = None
    """How a suite ran it; None outside of suites."""
    measurement: Measurement | None = None
    """Everything else; None in reports of older versions."""


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """An engine without a result."""

    name: str
    kind: Literal["failed", "skipped"]
    """``skipped``: this machine cannot run it. ``failed``: it should have run and did not."""
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One version of a crop."""

    label: str
    """``LR``, ``bicubic``, an engine's name, or ``HR``."""
    file: str
    """PNG, relative to the folder of the report."""
    psnr_y: float | None
    """PSNR of this crop in dB; None for LR and HR."""


@dataclass(frozen=True, slots=True)
class CropStrip:
    """The same part of one image, upscaled in every way."""

    title: str
    """Why this part was chosen."""
    image: str
    scale: int
    box: tuple[int, int, int, int]
    """Top, left, height and width in HR pixels."""
    tiles: tuple[Tile, ...]


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
    telemetry: Telemetry | None = None
    """What the machine told of itself beside the run; None in suites and in reports of older versions."""
    suite: Suite | None = None
    """How the cases were planned and grouped; None where all engines took turns."""
    comparisons: tuple[Comparison, ...] = ()
    """Each engine against the one with the best image at its scale."""
    remote: RemoteOrigin | None = None
    """The machine that measured, where that was not the one that wrote this."""

    def baseline(self, scale: int) -> Quality:
        """Give the quality of bicubic upscaling at a scale that an engine was measured at."""
        return next(baseline.quality for baseline in self.baselines if baseline.scale == scale)


def write_report(report: Report, folder: Path) -> Path:
    """Write ``report.json`` into ``folder`` and give its path."""
    path = folder / REPORT_FILE
    write_text(path, records.to_json(report) + "\n")
    return path


def read_report(path: Path) -> Report:
    """Read a ``report.json``.

    Raises:
        ArtefactError: it is missing, damaged, impossible, or of another version or program.
    """
    return report_from_dict(read_report_json(path), str(path))


def read_report_json(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file that should hold a report or several.

    Raises:
        ArtefactError: it is missing, or no JSON object.
    """
    if path.is_dir():
        raise ArtefactError(f"{path} is a folder.", f"Give the {REPORT_FILE} in it.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError(f"cannot read {path}: {error}.", "Make it with `drc-deploy bench`.") from error
    return records.parse_json_object(text, str(path))


def report_from_dict(data: dict[str, Any], source: str) -> Report:
    """Build a report from parsed JSON and check it; ``source`` names the file in errors.

    Raises:
        ArtefactError: it is damaged, impossible, or of another version or program.
    """
    if not {"machine", "settings"} <= data.keys():
        raise ArtefactError(f"{source} is not a report.", f"Give a {REPORT_FILE} that `drc-deploy bench` wrote.")
    report = records.from_dict(Report, data, source)
    check_report(report, source)
    return report
