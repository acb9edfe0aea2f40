"""Whole machines: what is chosen on each."""

import dataclasses
from pathlib import Path

import pytest

from drc_deploy.bench.machine.telemetry.instruments import System, find_instruments
from drc_deploy.bench.machine.telemetry.summary import (
    Telemetry,
    choose_meter,
    describe,
    missing_kinds,
    summarise_engine,
)
from drc_deploy.bench.machine.telemetry.trace import Trace
from tests.bench.machine.telemetry.fake_nvml import EVERY_GPU_CALL, FakeNvml
from tests.bench.machine.telemetry.trees import FIXTURES, bare_system, build_tree

TREES = sorted(path.stem for path in FIXTURES.glob("*.tree"))
LINES = (FIXTURES / "tegrastats.txt").read_text().splitlines()


@pytest.mark.parametrize("tree", TREES)
def test_every_name_of_a_machine_is_its_own(tmp_path: Path, tree: str) -> None:
    system = dataclasses.replace(bare_system(build_tree(tree, tmp_path)), nvml=FakeNvml().load)
    names = [sensor.name for sensor in find_instruments(system).sensors]
    assert len(set(names)) == len(names) >= 8


@pytest.mark.parametrize("tree", TREES)
def test_meters_name_sensors_that_are_there(tmp_path: Path, tree: str) -> None:
    found = find_instruments(bare_system(build_tree(tree, tmp_path)))
    names = {sensor.name for sensor in found.sensors}
    assert all(name in names for meter in found.meters for name in meter.series)
    assert bool(found.meters) == (tree != "linux_amd_rootless")


def test_a_pc_has_one_meter_for_each_part(tmp_path: Path) -> None:
    system = dataclasses.replace(bare_system(build_tree("linux_intel", tmp_path)), nvml=FakeNvml().load)
    meters = find_instruments(system).meters
    on_gpu, on_cpu = choose_meter(meters, "GPU"), choose_meter(meters, "CPU")
    assert on_gpu is not None
    assert on_cpu is not None
    assert (on_gpu.covers, on_cpu.covers) == ("GPU board", "CPU package")


def test_an_engine_on_the_cpu_is_never_charged_with_the_gpu() -> None:
    system = dataclasses.replace(bare_system(Path("/nonexistent")), nvml=FakeNvml().load)
    found = find_instruments(system)
    assert choose_meter(found.meters, "CPU") is None
    record = Telemetry("", found.state, tuple(found.meters), None, Trace(()), found.missing, ())
    engine = summarise_engine(record, [(0.0, 1.0)], 5, "ONNX Runtime CPUExecutionProvider")
    assert "RAPL" in engine.unavailable["energy"]


def test_an_nvml_that_supports_nothing_is_no_source_and_is_closed(tmp_path: Path) -> None:
    fake = FakeNvml(unsupported=EVERY_GPU_CALL)
    system = dataclasses.replace(bare_system(build_tree("jetpack6_orin_nano", tmp_path)), nvml=fake.load)
    found = find_instruments(system)
    assert [source.name for source in found.sources] == ["files"]
    assert not fake.open
    assert found.missing["power of the GPU"] == "NVML: Not Supported"


def test_a_jetson_is_metered_whole_even_where_nvml_reports_its_gpu(tmp_path: Path) -> None:
    system = dataclasses.replace(bare_system(build_tree("jetpack6_orin_nano", tmp_path)), nvml=FakeNvml().load)
    meter = choose_meter(find_instruments(system).meters, "GPU")
    assert meter is not None
    assert meter.series == ("VDD_IN",)


def test_an_engine_on_a_gpu_without_a_driver_has_the_reason_for_its_missing_energy(tmp_path: Path) -> None:
    found = find_instruments(bare_system(build_tree("linux_intel", tmp_path)))
    assert [source.name for source in found.sources] == ["files"]
    cpu_only = tuple(meter for meter in found.meters if meter.part == "CPU")
    reported = Telemetry("", found.state, cpu_only, None, Trace(()), found.missing, ())
    on_gpu = summarise_engine(reported, [(0.0, 1.0)], 5, "torch Tesla T4")
    assert "NVML Shared Library Not Found" in on_gpu.unavailable["energy"]


def test_tegrastats_stands_in_where_a_jetson_shows_no_rails(tmp_path: Path) -> None:
    root = build_tree("jetpack6_orin_nano", tmp_path)
    for name in ("sys/class/hwmon/hwmon1/name", "sys/class/hwmon/hwmon1/in1_label"):
        (root / name).unlink()
    found = find_instruments(dataclasses.replace(bare_system(root), tegrastats=("echo", LINES[2])))
    found.close()
    assert [source.name for source in found.sources] == ["files", "tegrastats"]
    assert [meter.series for meter in found.meters] == [("VDD_IN",)]
    names = [sensor.name for sensor in found.sensors]
    assert len(set(names)) == len(names)


def test_tegrastats_is_not_started_where_there_are_files(tmp_path: Path) -> None:
    system = dataclasses.replace(
        bare_system(build_tree("jetpack7_thor", tmp_path)), tegrastats=("touch", str(tmp_path / "started"))
    )
    find_instruments(system)
    assert not (tmp_path / "started").exists()


def test_a_machine_without_sensors_says_so_in_one_sentence(tmp_path: Path) -> None:
    found = find_instruments(bare_system(tmp_path))
    assert (found.sources, found.meters) == ([], [])
    sentence = describe(Trace(()), (), found.missing)
    assert sentence.startswith("No sensors for power, temperature or clocks: There is no working NVIDIA")
    assert sentence.count(". ") == 0
    assert sentence.endswith(".")
    assert not sentence.endswith("..")
    missing = missing_kinds(found.sensors, found.missing)
    assert set(missing) == {"power", "temperature", "clocks", "throttling"}
    assert "RAPL" in missing["power"]
    assert "cpufreq" not in missing["power"]


def test_this_machine_answers_or_gives_reasons() -> None:
    found = find_instruments(System())
    try:
        numbers = [value for source in found.sources for value in source.sweep({}) if value is not None]
    finally:
        found.close()
    assert numbers or len(found.missing) >= 4
