import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drc_deploy.bench.machine.telemetry.energy import Energy, engine_energy, integrate, mean_power
from drc_deploy.bench.machine.telemetry.sensors import Meter
from tests.bench.machine.telemetry.trees import series, trace

NAN = float("nan")
METER = Meter("module", "all", "power", ("VDD_IN",))
COUNTER = Meter("CPU package", "CPU", "energy", ("package-0",))

gaps = st.lists(st.floats(0.02, 0.3), min_size=2, max_size=60)


def stamps(steps: list[float]) -> np.ndarray:
    return np.cumsum(np.array([0.0, *steps]))


@given(gaps, st.floats(-5, 500), st.floats(-50, 50), st.floats(0, 1), st.floats(0, 1))
def test_a_ramp_is_exact_at_any_sampling_and_any_ends(
    steps: list[float], watts: float, slope: float, one: float, other: float
) -> None:
    times = stamps(steps)
    start, end = sorted((one * times[-1], other * times[-1]))
    found = integrate("power", times, watts + slope * times, (start, end), 1.0)
    joules = watts * (end - start) + slope * (end**2 - start**2) / 2
    assert found[0] == pytest.approx(joules, rel=1e-6, abs=1e-6)
    assert found[1] == pytest.approx(end - start, abs=1e-9)


def test_ten_samples_a_second_of_a_power_that_swings_once_a_second_err_by_less_than_two_percent() -> None:
    """20 + 10 sin(2 pi t) W: the integral over 0.05 to 0.4 s has a closed form; the error is stated."""
    times = np.arange(0, 1.01, 0.1)
    joules, _ = integrate("power", times, 20 + 10 * np.sin(2 * math.pi * times), (0.05, 0.4), 1.0)
    exact = 20 * 0.35 - 10 / (2 * math.pi) * (math.cos(2 * math.pi * 0.4) - math.cos(2 * math.pi * 0.05))
    error = joules / exact - 1
    assert -0.02 < error < 0  # a trapezoid lies below an arch
    whole, _ = integrate("power", times, 20 + 10 * np.sin(2 * math.pi * times), (0.0, 1.0), 1.0)
    assert whole == pytest.approx(20.0)  # over a full period the error cancels


def test_a_gap_is_neither_zero_nor_filled() -> None:
    times = np.arange(0.0, 1.01, 0.1)
    watts = np.full(11, 30.0)
    watts[4:7] = NAN  # nothing is known from 0.3 to 0.7 s
    assert integrate("power", times, watts, (0.0, 1.0), 0.5) == pytest.approx((30.0 * 0.6, 0.6))


def test_samples_that_are_far_apart_have_a_gap_between_them() -> None:
    times, watts = np.array([0.0, 0.1, 2.0, 2.1]), np.array([10.0, 10.0, 10.0, 10.0])
    assert integrate("power", times, watts, (0.0, 2.1), 0.5) == pytest.approx((2.0, 0.2))


def test_a_counter_loses_nothing_in_a_gap_inside_the_window() -> None:
    times, joules = np.array([0.0, 0.1, 2.0, 2.1]), np.array([5.0, 6.0, 25.0, 26.0])
    assert integrate("energy", times, joules, (0.05, 2.05), 0.5) == pytest.approx((0.5 + 19.0 + 0.5, 2.0))


def test_a_counter_gap_across_an_end_and_a_reset_are_not_covered() -> None:
    times = np.array([0.0, 0.1, 2.0, 2.1, 2.2])
    joules = np.array([5.0, 6.0, 25.0, 0.0, 1.0])
    assert integrate("energy", times, joules, (1.0, 2.2), 0.5) == pytest.approx((1.0, 0.1))


@given(gaps, st.floats(0, 1), st.floats(0, 1))
def test_a_counter_and_the_power_behind_it_agree(steps: list[float], one: float, other: float) -> None:
    times = stamps(steps)
    window = tuple(sorted((one * times[-1], other * times[-1])))
    from_counter, _ = integrate("energy", times, 17.5 * times + 1000, window, 1.0)
    from_power, _ = integrate("power", times, np.full(times.shape, 17.5), window, 1.0)
    assert from_counter == pytest.approx(from_power, abs=1e-6)


def test_an_engine_pays_for_its_own_rounds_only() -> None:
    """Two engines in turns, one at 10 W and one at 30 W, 20 samples a second; the idle machine takes 4 W."""
    times = [index / 20 for index in range(141)]
    watts = [4.0 if t < 2.975 else 10.0 if int(t - 2.975) % 2 == 0 else 30.0 for t in times]
    record = trace(times, series("VDD_IN", "power", watts), period_s=0.05)
    found = engine_energy(record, METER, [(4.0, 4.95), (6.0, 6.95)], images=38, idle=(0.0, 2.9))
    assert isinstance(found, Energy)
    assert found.per_image_j == pytest.approx(30.0 * 1.9 / 38)
    assert (found.mean_power_w, found.idle_power_w) == pytest.approx((30.0, 4.0))
    assert (found.of, found.covers) == ("VDD_IN", "module")
    assert found.covered == pytest.approx(1.0)


def test_the_rails_of_a_sum_are_added() -> None:
    meter = Meter("a sum of rails", "all", "power", ("A", "B"))
    record = trace([0.0, 0.1, 0.2], series("A", "power", [2.0] * 3), series("B", "power", [3.0] * 3))
    assert mean_power(record, meter, [(0.0, 0.2)]) == pytest.approx((5.0, 1.0))


def test_one_rail_missing_makes_the_sum_unknown_and_not_smaller() -> None:
    meter = Meter("a sum of rails", "all", "power", ("A", "B"))
    record = trace([0.0, 0.1, 0.2], series("A", "power", [2.0] * 3))
    assert mean_power(record, meter, [(0.0, 0.2)]) is None
    assert engine_energy(record, meter, [(0.0, 0.2)], 1, None) == "samples of A + B cover 0% of its rounds"


def test_rounds_that_are_covered_by_less_than_half_have_no_energy() -> None:
    times = [index / 10 for index in range(11)]
    record = trace(times, series("VDD_IN", "power", [5.0] * 5 + [None] * 6))
    found = engine_energy(record, METER, [(0.0, 1.0)], 10, None)
    assert found == "samples of VDD_IN cover 40% of its rounds"


def test_what_is_not_covered_is_taken_to_have_had_the_mean_power() -> None:
    times = [index / 10 for index in range(11)]
    record = trace(times, series("VDD_IN", "power", [5.0] * 9 + [None] * 2))
    found = engine_energy(record, METER, [(0.0, 1.0)], 10, None)
    assert isinstance(found, Energy)
    assert (found.covered, found.per_image_j) == pytest.approx((0.8, 0.5))
    assert found.idle_power_w is None


def test_energy_of_a_counter_says_so() -> None:
    times = [index / 10 for index in range(11)]
    record = trace(times, series("package-0", "energy", [40.0 * t for t in times]))
    found = engine_energy(record, COUNTER, [(0.15, 0.85)], 7, None)
    assert isinstance(found, Energy)
    assert found.per_image_j == pytest.approx(4.0)
    assert "counter" in found.method


def test_rounds_shorter_than_what_the_meter_resolves_are_said_to_be_blurred() -> None:
    times = [index / 10 for index in range(31)]
    record = trace(times, series("VDD_IN", "power", [5.0] * 31))
    averaged = Meter("GPU board", "GPU", "power", ("VDD_IN",), resolution_s=1.0)
    short = engine_energy(record, averaged, [(0.0, 0.375), (1.0, 1.375)], 10, None)
    long = engine_energy(record, averaged, [(0.0, 2.5)], 10, None)
    assert isinstance(short, Energy)
    assert isinstance(long, Energy)
    assert "rounds of 0.38 s" in short.blur
    assert "--min-seconds" in short.blur
    assert long.blur == ""


def test_a_counter_that_stands_still_is_unknown_and_not_free() -> None:
    record = trace([0.0, 0.1, 0.2], series("package-0", "energy", [7.0] * 3))
    assert engine_energy(record, COUNTER, [(0.0, 0.2)], 1, None) == "package-0 reported no power above zero"
