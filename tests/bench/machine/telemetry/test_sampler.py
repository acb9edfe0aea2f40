import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drc_deploy.bench.machine.telemetry.power_files import find_rails
from drc_deploy.bench.machine.telemetry.sampler import Sampler
from drc_deploy.bench.machine.telemetry.sensors import Probe, ProbeGroup, Sensor
from drc_deploy.bench.machine.telemetry.trace import Trace
from tests.bench.machine.telemetry.trees import build_tree, source_of


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.005)


def values(trace: Trace, name: str) -> tuple[float | None, ...]:
    found = trace.find(name)
    return found[1].values if found else ()


def test_samples_carry_the_time_at_which_they_were_true() -> None:
    """The sensor gives the clock itself, so that every value must equal its own time stamp."""
    source = source_of(time.perf_counter)
    with Sampler([source]) as sampler:
        wait_for(lambda: len(values(sampler.trace(), "VDD_IN")) >= 8)
    (track,) = sampler.trace().tracks
    for time_s, value in zip(track.times_s, track.series[0].values, strict=True):
        assert value is not None
        assert value - sampler.zero_s == pytest.approx(time_s, abs=0.1)
    assert list(track.times_s) == sorted(track.times_s)
    assert track.sweep_ms > 0
    assert track.core_part >= 0


def test_a_sensor_that_vanishes_leaves_a_gap_and_a_sentence_and_the_others_go_on(tmp_path: Path) -> None:
    source = ProbeGroup("files", 0.01, tuple(find_rails(build_tree("jetpack6_orin_nano", tmp_path)).probes))
    with Sampler([source]) as sampler:
        wait_for(lambda: len(values(sampler.trace(), "VDD_IN")) >= 3)
        (tmp_path / "sys/class/hwmon/hwmon1/in2_input").unlink()
        wait_for(lambda: None in values(sampler.trace(), "VDD_CPU_GPU_CV"))
        (tmp_path / "sys/class/hwmon/hwmon1/in2_input").write_text("5000\n")
        wait_for(lambda: values(sampler.trace(), "VDD_CPU_GPU_CV")[-1] is not None)
    trace = sampler.trace()
    assert None not in values(trace, "VDD_IN")
    assert 0.0 not in values(trace, "VDD_CPU_GPU_CV")
    assert values(trace, "VDD_CPU_GPU_CV")[-1] == pytest.approx(2.0)
    (note,) = sampler.notes()
    assert note.startswith("VDD_CPU_GPU_CV: ")
    assert "samples are missing, the first at" in note
    assert "No such file" in note


def test_a_sensor_that_never_answers_is_no_series_but_a_reason() -> None:
    def never() -> float:
        raise OSError(11, "Resource temporarily unavailable")

    with Sampler([source_of(never, "temperature", "cv0-thermal")]) as sampler:
        wait_for(lambda: bool(sampler.trace().tracks[0].times_s))
    assert sampler.trace().tracks[0].series == ()
    assert sampler.silent() == {"cv0-thermal": "Resource temporarily unavailable"}
    assert sampler.notes() == ()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(EOFError("tegrastats ended"), "tegrastats ended."), (ZeroDivisionError("odd"), "ZeroDivisionError: odd.")],
)
def test_a_source_that_ends_or_breaks_is_reported_and_ends_nothing_else(error: Exception, sentence: str) -> None:
    left = iter([5.0, 5.0])

    def read() -> float:
        for value in left:
            return value
        raise error

    with Sampler([source_of(read), source_of(lambda: 1.0, name="other")]) as sampler:
        wait_for(lambda: bool(sampler.notes()) and len(values(sampler.trace(), "other")) > 5)
    assert values(sampler.trace(), "VDD_IN") == (5.0, 5.0)
    (note,) = sampler.notes()
    assert note.endswith(sentence)


def test_a_driver_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drc_deploy.bench.machine.telemetry.sampler.JOIN_TIMEOUT_S", 0.1)
    release = threading.Event()

    def hang() -> float:
        release.wait()  # this test would wait as well
        return 1.0

    with Sampler([source_of(hang)]) as sampler:
        time.sleep(0.05)
    assert sampler.silent() == {"VDD_IN": "no sample was taken"}
    release.set()


def test_a_source_with_its_own_beat_is_closed_first_so_that_its_thread_ends() -> None:
    closed = threading.Event()
    probe = Probe((Sensor("VIN", "power", "all", "a test"),), lambda: _wait_for_line(closed))
    sampler = Sampler([ProbeGroup("tegrastats", 0.1, (probe,), closed.set, waits=True)])
    with sampler:
        time.sleep(0.05)
    assert sampler.notes() == ()  # ended because it was told to
    assert not [thread for thread in threading.enumerate() if thread.name == "telemetry: tegrastats"]


def _wait_for_line(closed: threading.Event) -> list[float | None]:
    closed.wait(30)
    raise EOFError("tegrastats ended")
