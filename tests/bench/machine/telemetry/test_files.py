"""What files tell: rails, temperatures, clocks, limits and energy counters."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from drc_deploy.bench.machine.telemetry.files import find_cpu_clock, find_gpu_clock, find_limits, find_temperatures
from drc_deploy.bench.machine.telemetry.power_files import find_rails, find_rapl, total_meter
from drc_deploy.bench.machine.telemetry.sensors import Found, Probe, ProbeGroup
from tests.bench.machine.telemetry.trees import build_tree


def readings(probes: Iterable[Probe]) -> dict[str, float | None]:
    source = ProbeGroup("files", 0.1, tuple(probes))
    return dict(zip((sensor.name for sensor in source.sensors), source.sweep({}), strict=True))


def test_rails_of_agx_orin_add_up_without_the_one_that_another_feeds(tmp_path: Path) -> None:
    found = find_rails(build_tree("jetpack5_agx_orin", tmp_path))
    assert readings(found.probes) == {
        "VDD_GPU_SOC": pytest.approx(2.4),
        "VDD_CPU_CV": pytest.approx(0.405),
        "VIN_SYS_5V0": pytest.approx(4.032),
        "VDDQ_VDD2_1V8AO": pytest.approx(0.3024),
    }
    (meter,) = found.meters
    assert (meter.covers, meter.series) == ("a sum of rails", ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))


def test_a_chip_that_two_paths_lead_to_is_one_chip(tmp_path: Path) -> None:
    found = find_rails(build_tree("jetpack6_orin_nano", tmp_path))
    assert readings(found.probes) == {
        "VDD_IN": pytest.approx(9.250304),
        "VDD_CPU_GPU_CV": pytest.approx(1.9936),
        "VDD_SOC": pytest.approx(1.79424),
    }
    (meter,) = found.meters
    assert (meter.covers, meter.series, meter.part) == ("module", ("VDD_IN",), "all")


def test_thor_shows_the_whole_board(tmp_path: Path) -> None:
    found = find_rails(build_tree("jetpack7_thor", tmp_path))
    assert readings(found.probes)["VIN"] == pytest.approx(23.0)
    assert readings(found.probes)["VDD_GPU"] == pytest.approx(7.7056)
    assert set(readings(found.probes)) == {"VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0", "VIN"}
    assert [(meter.covers, meter.series) for meter in found.meters] == [("board", ("VIN",))]


@pytest.mark.parametrize(
    ("rails", "total"),
    [
        (["VDD_GPU", "VDD_IN"], ("VDD_IN",)),
        (["POM_5V_GPU", "POM_5V_IN"], ("POM_5V_IN",)),
        (["VIN_SYS_5V0", "VDD_GPU_SOC"], ("VIN_SYS_5V0", "VDD_GPU_SOC")),
    ],
)
def test_the_total_is_the_widest_rail_or_the_sum(rails: list[str], total: tuple[str, ...]) -> None:
    assert total_meter(rails).series == total


def test_a_board_without_a_power_monitor_says_so(tmp_path: Path) -> None:
    assert find_rails(tmp_path) == Found(missing={"power": "no INA3221 or INA238 power monitor can be read"})


def test_a_zone_that_is_off_is_a_gap_with_its_reason_and_never_256_below_zero(tmp_path: Path) -> None:
    source = ProbeGroup("files", 0.1, tuple(find_temperatures(build_tree("jetpack5_agx_orin", tmp_path)).probes))
    reasons: dict[str, str] = {}
    assert source.sweep(reasons) == [pytest.approx(42.593), None, pytest.approx(42.593)]
    assert reasons == {"GPU-therm": "what it measures is switched off"}


def test_a_zone_that_cannot_be_read_leaves_the_others(tmp_path: Path) -> None:
    found = readings(find_temperatures(build_tree("jetpack6_orin_nano", tmp_path)).probes)
    assert found["cv0-thermal"] is None
    assert found["gpu-thermal"] == pytest.approx(50.125)


def test_a_pc_gives_its_packages_and_not_every_core(tmp_path: Path) -> None:
    found = find_temperatures(build_tree("linux_intel", tmp_path))
    assert readings(found.probes) == {"coretemp Package id 0": pytest.approx(61.0)}


def test_two_processors_have_two_names(tmp_path: Path) -> None:
    found = find_temperatures(build_tree("linux_amd_rootless", tmp_path))
    assert readings(found.probes) == {"k10temp Tctl": pytest.approx(54.25), "k10temp Tctl 2": pytest.approx(51.0)}


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ("jetpack5_agx_orin", {"GPU clock (17000000.ga10b)": 1300.5, "GPU load (17000000.ga10b)": 87.3}),
        ("jetpack6_orin_nano", {"GPU clock (17000000.gpu)": 306.0, "GPU load (gpu.0)": 0.0}),
        ("jetpack7_thor", {"GPU clock (gpu-gpc-0)": 1575.0}),
    ],
)
def test_the_gpu_of_each_jetpack_is_found(tmp_path: Path, tree: str, expected: dict[str, float]) -> None:
    found = find_gpu_clock(build_tree(tree, tmp_path))
    assert readings(found.probes) == pytest.approx(expected)
    assert ("load of the GPU" in found.missing) == (tree == "jetpack7_thor")


def test_the_clock_of_a_cpu_is_that_of_its_fastest_core(tmp_path: Path) -> None:
    assert readings(find_cpu_clock(build_tree("linux_intel", tmp_path)).probes) == {"CPU clock": pytest.approx(3900.0)}
    (tmp_path / "sys/devices/system/cpu/cpufreq/policy1/scaling_cur_freq").unlink()  # a core that is switched off
    assert readings(find_cpu_clock(tmp_path).probes) == {"CPU clock": pytest.approx(800.0)}
    assert find_cpu_clock(tmp_path / "none").missing == {"clock of the CPU": "there is no cpufreq"}


def test_an_alert_of_thor_is_reported_and_a_clock_at_work_is_none(tmp_path: Path) -> None:
    found = readings(find_limits(build_tree("jetpack7_thor", tmp_path)).probes)
    assert found == {"cpu-throttle-alert": 0.0, "gpu-throttle-alert": 1.0}


def test_events_count_when_they_happen_and_not_for_having_happened(tmp_path: Path) -> None:
    probes = find_limits(build_tree("jetpack6_orin_nano", tmp_path)).probes
    name = "over-current or under-voltage event oc3"
    assert readings(probes)[name] == 0.0
    (tmp_path / "sys/class/hwmon/hwmon3/oc3_event_cnt").write_text("39\n")
    assert readings(probes)[name] == 1.0
    assert readings(probes)[name] == 0.0


def test_the_count_of_an_intel_package_is_a_limit(tmp_path: Path) -> None:
    probes = find_limits(build_tree("linux_intel", tmp_path)).probes
    (tmp_path / "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count").write_text("5\n")
    assert readings(probes) == {"thermal throttling of the CPU": 1.0}


def test_an_energy_counter_goes_on_where_its_file_wraps_around(tmp_path: Path) -> None:
    found = find_rapl(build_tree("linux_intel", tmp_path))
    counter = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    assert readings(found.probes)["package-0"] == 0.0
    counter.write_text("262143300000\n")
    assert readings(found.probes)["package-0"] == pytest.approx(0.3)
    counter.write_text("971150\n")  # 28,850 up to its range of 262,143,328,850, then 971,150 more
    assert readings(found.probes)["package-0"] == pytest.approx(1.3)
    assert [(meter.covers, meter.part, meter.series) for meter in found.meters] == [
        ("CPU package", "CPU", ("package-0",))
    ]


def test_a_counter_for_root_alone_is_unavailable_and_not_zero(tmp_path: Path) -> None:
    found = find_rapl(build_tree("linux_amd_rootless", tmp_path))
    assert (found.probes, found.meters) == ([], [])
    assert "which Linux lets root alone: Is a directory" in found.missing["energy of the CPU"]
