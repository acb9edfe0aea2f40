"""The sampler: a thread for each source in the parent, while the engines run in processes of their own."""

import time
from collections.abc import Callable, Sequence
from threading import Event, Thread

from drc_deploy.bench.machine.telemetry.sensors import ProbeGroup
from drc_deploy.bench.machine.telemetry.trace import UNITS, Series, Trace, Track

JOIN_TIMEOUT_S = 2.0
"""A driver that does not answer is not waited for: the threads are daemons."""
DIGITS = 4

Clock = Callable[[], float]
"""Returns seconds that never run backwards, the same in all processes."""


class Sampler:
    """Samples in a ``with`` block, or until ``stop``."""

    def __init__(self, sources: Sequence[ProbeGroup], clock: Clock = time.perf_counter) -> None:
        self._stop = Event()
        self.zero_s = clock()
        """The start of the trace on the clock."""
        self._recorders = [_Recorder(source, clock, self.zero_s, self._stop) for source in sources]

    def __enter__(self) -> "Sampler":
        for recorder in self._recorders:
            recorder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End sampling and close the sources; again is no error."""
        if self._stop.is_set():
            return
        self._stop.set()
        for recorder in self._recorders:
            if recorder.source.waits:
                recorder.source.close()  # first: its thread waits for a line that need not come
        for recorder in self._recorders:
            recorder.join(JOIN_TIMEOUT_S)
            if not recorder.is_alive():  # a library is not shut down under a call that hangs
                recorder.source.close()

    def trace(self) -> Trace:
        """Return what was sampled so far; a sensor that never answered is left out."""
        return Trace(tuple(recorder.track() for recorder in self._recorders))

    def silent(self) -> dict[str, str]:
        """Return the sensors that never answered, with the last reason."""
        return {name: reason for recorder in self._recorders for name, reason in recorder.silent().items()}

    def notes(self) -> tuple[str, ...]:
        """Say in a sentence for each sensor what is missing of its samples."""
        return tuple(note for recorder in self._recorders for note in recorder.notes())


class _Recorder(Thread):
    """One source and its samples so far."""

    def __init__(self, source: ProbeGroup, clock: Clock, zero_s: float, stop: Event) -> None:
        super().__init__(name=f"telemetry: {source.name}", daemon=True)
        self.source, self._clock, self._zero_s, self._stopped = source, clock, zero_s, stop
        self._rows: list[tuple[float, list[float | None]]] = []
        self._reasons: dict[str, str] = {}
        self._ended = ""
        self._swept_s = self._processor_s = 0.0

    def run(self) -> None:
        """Sweep until it is stopped, or until the source ends or breaks."""
        while not self._stopped.is_set():
            begin, processor = self._clock(), time.thread_time()
            try:
                row = self.source.sweep(self._reasons)
            except EOFError as error:
                self._ended = "" if self._stopped.is_set() else str(error)
                return
            except Exception as error:  # a library may raise anything; the measurement goes on without it
                self._ended = f"{self.source.name} broke: {type(error).__name__}: {error}"
                return
            end = self._clock()
            self._processor_s += time.thread_time() - processor
            self._swept_s += end - begin
            self._rows.append(((end if self.source.waits else (begin + end) / 2) - self._zero_s, row))
            if not self.source.waits:
                self._stopped.wait(max(0.0, begin + self.source.period_s - self._clock()))

    def track(self) -> Track:
        """Return what was sampled so far."""
        rows = list(self._rows)
        duration_s = rows[-1][0] - rows[0][0] if len(rows) > 1 else 0.0
        series = []
        for index, sensor in enumerate(self.source.sensors):
            values = tuple(_rounded(row[index]) for _, row in rows)
            if values.count(None) < len(values):
                series.append(Series(sensor.name, sensor.kind, UNITS[sensor.kind], sensor.part, sensor.source, values))
        return Track(
            source=self.source.name,
            period_s=self.source.period_s,
            sweep_ms=round(1000 * self._swept_s / max(len(rows), 1), DIGITS),
            core_part=round(self._processor_s / duration_s, 6) if duration_s else 0.0,
            times_s=tuple(round(time_s, DIGITS) for time_s, _ in rows),
            series=tuple(series),
        )

    def silent(self) -> dict[str, str]:
        """Return the sensors without any sample, with the last reason."""
        answered = {series.name for series in self.track().series}
        silent = [sensor.name for sensor in self.source.sensors if sensor.name not in answered]
        return {name: self._reasons.get(name) or self._ended or "no sample was taken" for name in silent}

    def notes(self) -> list[str]:
        """Say what is missing."""
        notes = []
        track = self.track()
        for series in track.series:
            gaps = series.values.count(None)
            if gaps:
                first_s = track.times_s[series.values.index(None)]
                why = self._reasons.get(series.name, "it gave no number")
                missing = f"{gaps} of {len(series.values)} samples are missing, the first at {first_s:.1f} s"
                notes.append(f"{series.name}: {missing}: {why}.")
        if self._ended:
            end_s = f" after {track.times_s[-1]:.1f} s" if track.times_s else ""
            notes.append(f"{self.source.name} sent nothing more{end_s}: {self._ended}.")
        return notes


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
