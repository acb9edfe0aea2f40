"""Telemetry during one benchmark run: opened before it, resting a moment, stopped after the last timed round."""

import time
from collections.abc import Callable, Sequence

from drc_deploy.bench.machine.telemetry.instruments import Instruments, find_instruments
from drc_deploy.bench.machine.telemetry.sampler import Sampler
from drc_deploy.bench.machine.telemetry.summary import (
    EngineTelemetry,
    Telemetry,
    describe,
    missing_kinds,
    summarise_engine,
)
from drc_deploy.bench.machine.telemetry.trace import Window
from drc_deploy.bench.measure.timing import Round

IDLE_S = 2.0
"""How long the idle power is measured: twice the second that some GPUs average over."""

DIGITS = 6

OpenInstruments = Callable[[], Instruments]


class Watch(Sampler):
    """The sampler of all sensors of the machine, and what its samples say of the run and of each engine."""

    def __init__(self, open_instruments: OpenInstruments = find_instruments) -> None:
        self._instruments = open_instruments()
        super().__init__(self._instruments.sources)
        self._idle_s: Window | None = None

    def rest(self) -> None:
        """Wait where power can be read, so that its idle value is known."""
        if self._instruments.meters:
            start = time.perf_counter()
            time.sleep(IDLE_S)
            self._idle_s = self._window(start, time.perf_counter())

    def telemetry(self) -> Telemetry:
        """Return what was sampled, after ``stop``."""
        trace = self.trace()
        missing = self._instruments.missing | self.silent()
        unavailable = missing | missing_kinds(self._instruments.sensors, missing)
        meters = tuple(self._instruments.meters)
        return Telemetry(
            summary=describe(trace, meters, missing),
            state=self._instruments.state,
            meters=meters,
            idle_s=self._idle_s,
            trace=trace,
            unavailable=unavailable,
            notes=self.notes(),
        )

    def engine(self, telemetry: Telemetry, rounds: Sequence[Round], device: str) -> EngineTelemetry:
        """Return what ``telemetry`` says of an engine with these timed rounds."""
        windows = [self._window(timed.start_s, timed.end_s) for timed in rounds]
        return summarise_engine(
            telemetry, windows, sum(len(timed.samples_ms) * timed.calls for timed in rounds), device
        )

    def _window(self, start_s: float, end_s: float) -> Window:
        """Return two readings of the clock as a window of the trace."""
        return round(start_s - self.zero_s, DIGITS), round(end_s - self.zero_s, DIGITS)
