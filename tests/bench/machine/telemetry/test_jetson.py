from pathlib import Path

import pytest

from drc_deploy.bench.machine.telemetry.instruments import find_instruments
from drc_deploy.bench.machine.telemetry.power_state import (
    Release,
    jetson_release,
    parse_clocks_locked,
    parse_power_mode,
    power_state_text,
    read_power_state,
)
from tests.bench.machine.telemetry.trees import FIXTURES, absent, answering, bare_system, build_tree


@pytest.mark.parametrize(
    ("line", "release"),
    [
        ("# R35 (release), REVISION: 4.1, GCID: 33958178", Release("35.4.1", "5.1.2")),
        ("# R36 (release), REVISION: 3.0, GCID: 36106755", Release("36.3.0", "6.0")),
        ("# R36 (release), REVISION: 4.3", Release("36.4.3", "6.2")),
        ("# R38 (release), REVISION: 4.0", Release("38.4.0", "7.1")),
        ("# R39 (release), REVISION: 2.0", Release("39.2.0", "7.2")),
        ("# R36 (release), REVISION: 9.9", Release("36.9.9", "6 (of a later release than this program knows)")),
        ("# R99 (release), REVISION: 1.0", Release("99.1.0", None)),
    ],
)
def test_a_release_of_l4t_belongs_to_a_jetpack(tmp_path: Path, line: str, release: Release) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text(line + "\n")
    assert jetson_release(tmp_path) == release


def test_a_container_without_the_release_is_still_on_a_jetson(tmp_path: Path) -> None:
    root = build_tree("jetpack6_orin_nano", tmp_path)
    (root / "etc/nv_tegra_release").unlink()
    state = read_power_state(root, jetson_release(root), absent, ())
    assert (state.l4t, state.jetpack, state.clocks_locked) == (None, None, False)
    assert {"l4t", "jetpack", "power_mode"} <= set(state.unavailable)
    assert [meter.series for meter in find_instruments(bare_system(root)).meters] == [("VDD_IN",)]


def test_another_machine_is_no_jetson(tmp_path: Path) -> None:
    assert jetson_release(tmp_path) is None


@pytest.mark.parametrize(
    ("printed", "mode"),
    [
        ("NV Power Mode: 25W\n1\n", "25W (1)"),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: MODE_15W_6CORE\n2\n", "MODE_15W_6CORE (2)"),
        ("NV Power Mode: MAXN", "MAXN"),
        ("NVPM ERROR: failed to read PARAM GPU", None),
    ],
)
def test_power_modes(printed: str, mode: str | None) -> None:
    assert parse_power_mode(printed) == mode


@pytest.mark.parametrize(("name", "locked"), [("dynamic", False), ("locked", True)])
def test_locked_clocks_have_one_value_but_for_memory_and_cores_that_are_off(name: str, locked: bool) -> None:
    assert parse_clocks_locked((FIXTURES / f"jetson_clocks_{name}.txt").read_text()) is locked


def test_an_answer_without_clocks_reports_nothing() -> None:
    assert parse_clocks_locked("Error: Run this script(/usr/bin/jetson_clocks) as a root user") is None


@pytest.mark.parametrize(
    ("tree", "locked"), [("jetpack5_agx_orin", True), ("jetpack6_orin_nano", False), ("jetpack7_thor", True)]
)
def test_without_root_the_files_show_whether_clocks_are_locked(tmp_path: Path, tree: str, locked: bool) -> None:
    root = build_tree(tree, tmp_path)
    state = read_power_state(root, jetson_release(root), absent, ())
    assert state.clocks_locked is locked
    assert state.power_mode is None
    assert "power_mode" in state.unavailable


def test_jetson_clocks_is_believed_over_the_files(tmp_path: Path) -> None:
    root = build_tree("jetpack6_orin_nano", tmp_path)
    run = answering(
        {
            "nvpmodel": "NV Power Mode: 25W\n1\n",
            "jetson_clocks": (FIXTURES / "jetson_clocks_locked.txt").read_text(),
        }
    )
    state = read_power_state(root, jetson_release(root), run, ())
    assert power_state_text(state) == (
        "L4T 36.4.3 (JetPack 6.2), power mode 25W (1), clocks locked, CPU governor schedutil"
    )


def test_a_machine_that_reports_nothing_has_a_reason_for_each(tmp_path: Path) -> None:
    state = read_power_state(tmp_path, None, absent, ())
    assert set(state.unavailable) == {
        "l4t",
        "jetpack",
        "power_mode",
        "clocks_locked",
        "cpu_governor",
        "gpu_limits",
    }
    assert power_state_text(state) == ""
