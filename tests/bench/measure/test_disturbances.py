from pathlib import Path

import pytest

from drc_deploy.bench.measure.stability import Conditions, ConditionsWatch


def tell(root: Path, cpu: str, own: tuple[int, int], children: int = 0) -> None:
    """Write what Linux would: all columns of one process, whose name is meant to confuse, up to its times."""
    (root / "proc/7").mkdir(parents=True, exist_ok=True)
    (root / "proc/stat").write_text(f"cpu  {cpu}\ncpu0 1 2 3\n")
    (root / "proc/7/stat").write_text(f"7 (a) b (c) R {' '.join(['0'] * 10)} {own[0]} {own[1]} {children} 0\n")


def watch(root: Path, before: str, after: str, own: tuple[int, int]) -> Conditions:
    tell(root, before, (10, 5))
    found = ConditionsWatch(7, root)
    with found.round():
        tell(root, after, own)
    (only,) = found.rounds
    return only


def test_shares_are_of_all_cores_and_without_the_engine(tmp_path: Path) -> None:
    # Of 1000 ticks: 600 busy, of which 450 are the engine's, 50 stolen, 350 idle.
    found = watch(tmp_path, "100 0 0 500 0 0 0 10 0 0", "500 50 100 800 50 30 20 60 0 0", (410, 55))
    assert found.others_share == pytest.approx(0.15)
    assert found.steal_share == pytest.approx(0.05)
    assert found.clock_mhz is None


def test_a_program_that_the_engine_started_is_no_other(tmp_path: Path) -> None:
    tell(tmp_path, "100 0 0 500 0 0 0 0 0 0", (10, 5))
    found = ConditionsWatch(7, tmp_path)
    with found.round():
        tell(tmp_path, "600 0 0 1000 0 0 0 0 0 0", (10, 5), children=400)
    assert found.rounds[0].others_share == pytest.approx(0.1)


def test_a_round_too_short_for_the_counters_reports_nothing(tmp_path: Path) -> None:
    found = watch(tmp_path, "100 0 0 500 0 0 0 0 0 0", "105 0 0 510 0 0 0 0 0 0", (12, 5))
    assert (found.others_share, found.steal_share) == (None, None)


def test_a_system_without_counters_reports_nothing(tmp_path: Path) -> None:
    found = ConditionsWatch(7, tmp_path)
    with found.round():
        pass
    assert found.rounds == [Conditions(None, None, None)]


def test_the_clock_is_the_mean_of_the_cores(tmp_path: Path) -> None:
    for core, khz in enumerate((1_200_000, 1_800_000)):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{khz}\n")
    assert watch(tmp_path, "1 0 0 0 0 0 0 0 0 0", "2 0 0 0 0 0 0 0 0 0", (1, 1)).clock_mhz == 1500.0
