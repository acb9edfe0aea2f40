"""Engines that need no library, and a report made of them."""

import dataclasses
import gc
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Concatenate, cast

import cv2
import numpy as np

from drc_deploy.bench.machine.memory import Reading, split_memory
from drc_deploy.bench.machine.telemetry.instruments import find_instruments
from drc_deploy.bench.machine.telemetry.power_state import PowerState
from drc_deploy.bench.machine.telemetry.sensors import Meter
from drc_deploy.bench.machine.telemetry.summary import Telemetry
from drc_deploy.bench.machine.telemetry.summary import summarise_engine as summarise_telemetry
from drc_deploy.bench.machine.telemetry.trace import Series, Trace, Track
from drc_deploy.bench.measure import latency, quality
from drc_deploy.bench.measure.engine_timing import EngineRound, StreamRound, Workload
from drc_deploy.bench.measure.fidelity import ImageDifference, SeamError, TorchAgreement
from drc_deploy.bench.measure.latency import Latency
from drc_deploy.bench.measure.layer_times import unknown_layers
from drc_deploy.bench.measure.measurement import Measurement, summarise_network, summarise_streams
from drc_deploy.bench.measure.stability import Conditions, judge
from drc_deploy.bench.measure.timing import WarmUp
from drc_deploy.bench.report.records import (
    Baseline,
    CropStrip,
    CropVersion,
    EngineResult,
    NotMeasured,
    Report,
    Settings,
)
from drc_deploy.bench.run.benchmark import OpenEngineOf, run_bench
from drc_deploy.bench.run.inputs import BenchOptions
from drc_deploy.bench.run.watch import OpenInstruments
from drc_deploy.bench.run.worker import Answer, Arguments, EngineProcess, OpenEngine, Session, attempt
from drc_deploy.engine_info import Precision
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.metrics import UInt8Image
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.machine.machine import Machine
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import FakeBackend, fake_info


class _DiesLate(FakeBackend):
    """When its layers are to be timed, which comes last."""

    def time_layers(self, batch: Pixels, runs: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class FakeEngine(Upscaler):
    """Nearest-neighbour upscaling that misbehaves as the name of its file says."""

    def __init__(self, name: str) -> None:
        self._name, self._calls = name, 0
        kind = _DiesLate if name.startswith("crashes_late") else FakeBackend
        super().__init__(kind(fake_info(scale=8 if "x8" in name else 4)))

    def __call__(self, image: UInt8Image) -> UInt8Image:
        self._calls += 1
        if self._calls == 12 and self._name.startswith("fails"):
            raise ArtefactError("the network gave NaN.", "Train it again.")
        if self._calls == 12 and self._name.startswith("breaks"):
            raise ZeroDivisionError("of its own")
        if self._calls == 12 and self._name.startswith("crashes."):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._name.startswith("stalls"):
            time.sleep(100_000)
        if self._name.startswith("small"):
            return image
        return super().__call__(image)


@dataclass(frozen=True)
class OpenFake:
    """Opens a ``FakeEngine``, printing as native libraries do."""

    path: Path
    threads: int | None
    precision: Precision | None = None

    def __call__(self) -> Upscaler:
        print("a native library speaks")  # noqa: T201
        if self.path.name.startswith("gpu"):
            raise MissingDependencyError("it needs a GPU.", "Run the ONNX.")
        if self.path.name.startswith("damaged"):
            raise ArtefactError("it is damaged.", "Export it again.")
        return FakeEngine(self.path.name)


class SameProcess(EngineProcess):
    """An engine in the process of the test: it answers alike, without the second that starting a process takes."""

    def __init__(self, open_engine: OpenEngine, limit_s: float | None = None) -> None:
        gc.freeze()  # what the tests hold by now would take half a second of the collection before every round
        self._session = self._answer(lambda: Session(open_engine))

    @property
    def pid(self) -> int:
        return os.getpid()

    def ask(
        self,
        question: Callable[Concatenate[Session, Arguments], Answer],
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Answer:
        return self._answer(lambda: question(self._session, *arguments, **options))

    def close(self) -> None:
        pass

    @staticmethod
    def _answer(action: Callable[[], Answer]) -> Answer:
        answer, failure = attempt(action)
        if failure is not None:
            raise failure
        return cast(Answer, answer)


def start(open_engine: OpenEngine, limit_s: float | None = None) -> EngineProcess:
    """Start an engine here, or one that kills or stalls its process in a process of its own."""
    opened = open_engine.args[0] if isinstance(open_engine, partial) else getattr(open_engine, "path", "none")
    deadly = Path(opened).name.startswith(("crashes", "stalls"))
    return EngineProcess(open_engine, limit_s) if deadly else SameProcess(open_engine, limit_s)


def bench(
    options: BenchOptions,
    open_engine: OpenEngineOf = OpenFake,
    open_instruments: OpenInstruments = find_instruments,
) -> Report:
    """Measure as the command does, without processes."""
    return run_bench(options, open_engine, open_instruments, start=start)


MACHINE = Machine(
    board=None,
    cpu="Test CPU <fast>",
    logical_cores=4,
    memory_bytes=8 << 30,
    system="Linux",
    python="3.11.0",
    packages={"numpy": "2.0"},
    gpus=(),
    load_average=0.1,
    unavailable={"board": "none", "gpus": "there is no NVML"},
)


def engine(name: str, latency_ms: float, psnr: float | None = 30.0, *, scale: int = 4, runs: int = 40) -> EngineResult:
    row = quality.ImageQuality("astronaut", psnr, 0.9)
    rounds = [[latency_ms * (1 + 0.001 * (run % 5)) for run in range(runs // 8)] for _ in range(8)]
    return EngineResult(
        name=name,
        size_bytes=1000,
        sha256="0" * 64,
        engine=fake_info(scale=scale),
        device="fake",
        load_ms=5.0,
        warm_up=WarmUp((3.0, 2.0), settled=True),
        latency=latency.summarise(rounds),
        peak_host_memory=Reading(200 << 20, "measured"),
        peak_device_memory=Reading(None, "unavailable: the engine runs on fake"),
        quality=quality.summarise([row]),
        layers=unknown_layers("the engine runs on fake"),
        measurement=None,
    )


def report(*engines: EngineResult, folder: Path | None = None) -> Report:
    """Make a report; with a ``folder``, its crops are written there."""
    tiles = tuple(CropVersion(label, f"crops/{label}.png", None) for label in ("LR", "bicubic", "HR"))
    for tile in tiles if folder else ():
        (folder or Path()).joinpath("crops").mkdir(exist_ok=True)
        assert cv2.imwrite(str((folder or Path()) / tile.file), np.zeros((8, 8, 3), np.uint8))
    bicubic = quality.summarise([quality.ImageQuality("astronaut", 28.0, 0.8)])
    return Report(
        created="2026-01-02T03:04:05+00:00",
        version="0.1.0",
        summary="one is faster <than> the other",
        warnings=("The machine was busy.",),
        machine=MACHINE,
        settings=Settings("drc-deploy bench", 64, 96, "astronaut", "photographs", "bicubic", 40, 3.0, 8, None),
        baselines=tuple(Baseline(scale, bicubic) for scale in sorted({item.engine.scale for item in engines})),
        engines=engines,
        not_measured=(NotMeasured("x.plan", "skipped", "There is no GPU.", "Run the ONNX."),),
        crops=(CropStrip("Largest gain", "astronaut", 4, (4, 8, 8, 8), tiles),) if folder else (),
        telemetry=None,
        comparisons=(),
    )


def paced(name: str, rounds_ms: list[float], psnr: float = 30.0) -> EngineResult:
    """Make an engine whose pace changes from round to round, with three runs in each."""
    timed = latency.summarise([[ms, 1.1 * ms, 0.9 * ms] for ms in rounds_ms])
    return dataclasses.replace(engine(name, 1.0, psnr), latency=timed)


STATE = PowerState(
    l4t=None,
    jetpack=None,
    power_mode="MODE <x>",
    clocks_locked=True,
    cpu_governor=None,
    gpu_limits=(),
    unavailable={},
)


def with_telemetry(made: Report) -> Report:
    """Add the trace of a run of 100 s: 25 W from an energy counter, a GPU that warms up, limits that hold for 20 s."""
    times = tuple(float(second) for second in range(101))
    series = (
        Series("package-0", "energy", "J", "all", "powercap", tuple(25.0 * at for at in times)),
        Series("GPU <x>", "temperature", "degC", "GPU", "NVML", tuple(40.0 + at / 4 for at in times)),
        Series("GPU clock", "clock", "MHz", "GPU", "NVML", tuple(None if 40 <= at < 45 else 1500.0 for at in times)),
        Series("too <hot>", "throttle", "", "GPU", "NVML", tuple(float(at >= 80.8) for at in times)),
    )
    told = Telemetry(
        summary="Sampled <everything>.",
        state=STATE,
        meters=(Meter("CPU package", "all", "energy", ("package-0",), 1.0),),
        idle_s=(0.0, 5.0),
        trace=Trace((Track("fake", 1.0, 0.1, 0.001, times, series),)),
        unavailable={"fan": "nobody <asks>"},
        notes=("The clock was silent for 5 s.",),
    )
    count = len(made.engines)
    engines = []
    for index, one in enumerate(made.engines):
        length = 90.0 / (8 * count)
        starts = [8.0 + (turn * count + index) * length for turn in range(8)]
        rounds = [(start, start + 0.9 * length) for start in starts]
        images = round(10 * 0.9 * length * 8)  # ten images a second: 2.5 J each
        engines.append(dataclasses.replace(one, telemetry=summarise_telemetry(told, rounds, images, one.device)))
    return dataclasses.replace(made, engines=tuple(engines), telemetry=told)


def measurement(timed: Latency, *, settled: bool = True) -> Measurement:
    """Make what belongs to a latency, of a network that takes nine tenths of it."""
    rounds = [EngineRound(alone, alone, ()) for alone in (tuple(0.9 * ms for ms in row) for row in timed.rounds_ms)]
    unknown = Reading(None, "unavailable: the engine runs on fake")
    return Measurement(
        engine_only=summarise_network(Workload((1, 64, 96, 3), 1, 1), rounds, timed),
        throughput=summarise_streams([StreamRound(8, 0.1)] * 6, 256 * 384, 2),
        stability=judge(timed, [Conditions(0.01, 0.0, None)] * len(rounds), settled=settled),
        memory=split_memory(None, unknown, unknown),
        torch=TorchAgreement(ImageDifference(60.0, 1, 0.01), 5, "fake.safetensors with torch in float32 on the CPU"),
        seam=SeamError(None, 0, "unavailable: the engine takes tiles of 64x64 only, never a whole image"),
    )
