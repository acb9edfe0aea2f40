import re
from pathlib import Path

import pytest

from drc_deploy.bench.machine.telemetry import nvml as module
from drc_deploy.bench.machine.telemetry.nvml import find_gpu_sensors
from drc_deploy.bench.machine.telemetry.sensors import Found, ProbeGroup
from drc_deploy.errors import MissingDependencyError
from drc_deploy.runtime.machine import nvml as opening
from drc_deploy.runtime.machine.nvml import Gpu, Nvml, query_used_bytes
from tests.bench.machine.telemetry.fake_nvml import EVERY_GPU_CALL, FakeNvml
from tests.bench.machine.telemetry.trees import FIXTURES

LISTINGS = sorted(FIXTURES.glob("pynvml_*.txt"))
NEWER = {
    "nvmlDeviceGetTemperatureV",
    "nvmlClocksThrottleReasonBoardLimit",
    "nvmlClocksThrottleReasonReliability",
}
"""Names that the oldest supported version lacks; the program does without each of them."""


def values(found: Found) -> dict[str, float | None]:
    source = ProbeGroup("NVML", 0.1, tuple(found.probes))
    return dict(zip((sensor.name for sensor in source.sensors), source.sweep({}), strict=True))


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda path: path.stem)
def test_the_fake_has_no_name_that_the_real_package_lacks(listing: Path) -> None:
    real = set(listing.read_text().split())
    used = {name for name in vars(FakeNvml) if name.lower().startswith("nvml")}
    assert used - real <= (NEWER if "12." in listing.stem else set())


def test_every_name_that_the_program_asks_for_is_in_the_newest_package() -> None:
    real = set(LISTINGS[-1].read_text().split())
    code = Path(module.__file__).read_text() + Path(opening.__file__).read_text()
    asked = set(re.findall(r'"(nvml[A-Z]\w+)"|\b(NVML_\w+)\b', code))
    asked = {function or constant for function, constant in asked}
    assert len(asked) > 20
    assert asked <= real


def test_a_gpu_is_read_in_watts_joules_degrees_and_megahertz() -> None:
    found = find_gpu_sensors(Nvml(FakeNvml().load))
    assert values(found) == {
        "GPU power": 251.5,
        "GPU energy": 5003.0,
        "GPU temperature": 61.0,
        "GPU clock": 1980.0,
        "GPU load": 87.0,
    } | {f"GPU: {words}": 0.0 for words in module.LIMITS.values()}
    assert [(meter.covers, meter.kind, meter.series) for meter in found.meters] == [
        ("GPU board", "energy", ("GPU energy",))
    ]
    assert found.missing == {}


def test_throttle_reasons_are_bits_in_words_and_idle_is_none() -> None:
    fake = FakeNvml()
    found = find_gpu_sensors(Nvml(fake.load))
    fake.reasons = 0x1 | 0x2 | 0x4 | 0x40
    held = [name for name, value in values(found).items() if name.startswith("GPU: ") and value]
    assert held == ["GPU: software power cap", "GPU: hardware thermal slowdown"]


def test_an_older_driver_is_asked_by_the_old_names() -> None:
    fake = FakeNvml(
        unsupported=(
            "instant",
            "nvmlDeviceGetTemperatureV",
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetTotalEnergyConsumption",
        )
    )
    found = find_gpu_sensors(Nvml(fake.load))
    read = values(found)
    assert (read["GPU power"], read["GPU temperature"]) == (249.0, 62.0)
    assert read["GPU: software power cap"] == 0.0
    assert "averaged over a second" in found.probes[0].sensors[0].source
    assert [(meter.kind, meter.series, meter.resolution_s) for meter in found.meters] == [
        ("power", ("GPU power",), 1.0)
    ]
    assert found.missing == {"energy of the GPU": "NVML: Not Supported"}


def test_an_older_package_lacks_some_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(FakeNvml, "nvmlClocksThrottleReasonReliability")
    names = values(find_gpu_sensors(Nvml(FakeNvml().load)))
    assert "GPU: board limit" in names
    assert "GPU: reliability limit" not in names


def test_a_jetson_whose_nvml_supports_nothing_has_a_reason_for_each() -> None:
    found = find_gpu_sensors(Nvml(FakeNvml(unsupported=EVERY_GPU_CALL).load))
    assert (found.probes, found.meters) == ([], [])
    assert set(found.missing) == {
        f"{kind} of the GPU" for kind in ("power", "energy", "temperature", "clock", "load", "throttle")
    }


def test_two_gpus_are_distinguished_and_added_up() -> None:
    found = find_gpu_sensors(Nvml(FakeNvml(gpus=2).load))
    assert {"GPU 0 power", "GPU 1 power"} <= set(values(found))
    assert found.meters[0].series == ("GPU 0 energy", "GPU 1 energy")


def test_a_gpu_that_is_lost_leaves_gaps_with_the_reason() -> None:
    fake = FakeNvml()
    found = find_gpu_sensors(Nvml(fake.load))
    fake.unsupported = set(EVERY_GPU_CALL)
    reasons: dict[str, str] = {}
    assert set(ProbeGroup("NVML", 0.1, tuple(found.probes)).sweep(reasons)) == {None}
    assert reasons["GPU power"] == "NVML: Not Supported"


def test_a_gpu_is_described_as_far_as_its_driver_reports() -> None:
    known = Gpu("NVIDIA Test", "560.35.03", "8.9", 24564 << 20, 400.0, 450.0, 3105.0, 95.0)
    assert Nvml(FakeNvml().load).gpus() == (known,)
    unknown = Gpu("GPU", "unknown", None, None, None, None, None, None)
    assert Nvml(FakeNvml(unsupported=EVERY_GPU_CALL).load).gpus() == (unknown,)


def test_memory_in_use_is_that_of_all_gpus_that_report_it() -> None:
    assert Nvml(FakeNvml(gpus=2).load).used_bytes() == (512 + 2048) << 20
    assert Nvml(FakeNvml(unsupported=EVERY_GPU_CALL).load).used_bytes() is None


@pytest.mark.parametrize("fake", [FakeNvml(gpus=0), FakeNvml(unsupported=("nvmlInit",))])
def test_no_gpu_and_no_driver_are_reported_and_leave_nothing_open(fake: FakeNvml) -> None:
    with pytest.raises(MissingDependencyError, match="NVML"):
        Nvml(fake.load)
    assert not fake.open


def test_the_real_package_without_a_driver_is_an_answer() -> None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        with pytest.raises(MissingDependencyError, match="no working NVIDIA driver"):
            Nvml()
        assert query_used_bytes() is None
    else:
        pytest.skip("this machine has a driver")
