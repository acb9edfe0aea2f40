import pytest

from drc_deploy.bench.machine.telemetry.summary import clock_drops, throttle_reasons
from tests.bench.machine.telemetry.trees import series, trace

TIMES = [index / 10 for index in range(10)]


def test_a_limit_is_a_reason_only_in_the_windows_where_it_held() -> None:
    cap = series("software power cap", "throttle", [0, 0, 0, 1, 1, 0, 0, 0, 0, 0])
    hot = series("hardware thermal slowdown", "throttle", [0] * 10)
    record = trace(TIMES, cap, hot)
    assert throttle_reasons(record, [(0.0, 0.25), (0.35, 0.45)]) == ("software power cap",)
    assert throttle_reasons(record, [(0.0, 0.25), (0.55, 0.9)]) == ()


def test_where_nothing_reports_limits_there_is_no_all_clear() -> None:
    assert throttle_reasons(trace(TIMES, series("GPU clock", "clock", [1000.0] * 10)), [(0.0, 1.0)]) is None
    cap = series("software power cap", "throttle", [None] * 5 + [0.0] * 5)
    assert throttle_reasons(trace(TIMES, cap), [(0.0, 0.4)]) is None
    assert throttle_reasons(trace(TIMES, cap), [(0.0, 0.5)]) == ()


def test_a_clock_that_falls_is_found_with_both_values() -> None:
    record = trace(TIMES, series("GPU clock", "clock", [1300.0] * 5 + [1000.0] * 5, "GPU"))
    (drop,) = clock_drops(record, [(0.0, 1.0)], "GPU")
    assert (drop.clock, drop.from_mhz, drop.to_mhz) == ("GPU clock", 1300.0, 1000.0)


@pytest.mark.parametrize(
    "clock",
    [
        [306.0] * 3 + [1300.0] * 7,  # it rises when work begins
        [1300.0] * 4 + [900.0] + [1300.0] * 5,  # one stray sample
        [1300.0, 1270.0] * 5,  # 2.3 %
        [None] * 8 + [1300.0, 100.0],  # too few samples to tell
    ],
)
def test_what_is_no_drop(clock: list[float | None]) -> None:
    assert clock_drops(trace(TIMES, series("GPU clock", "clock", clock, "GPU")), [(0.0, 1.0)], "GPU") == ()


def test_the_clock_between_two_rounds_and_that_of_the_other_part_do_not_count() -> None:
    gpu = series("GPU clock", "clock", [1300.0] * 4 + [306.0] * 2 + [1300.0] * 4, "GPU")
    cpu = series("CPU clock", "clock", [3000.0] * 5 + [800.0] * 5, "CPU")
    record = trace(TIMES, gpu, cpu)
    assert clock_drops(record, [(0.0, 0.35), (0.6, 1.0)], "GPU") == ()
    assert [drop.clock for drop in clock_drops(record, [(0.0, 1.0)], "CPU")] == ["CPU clock"]
