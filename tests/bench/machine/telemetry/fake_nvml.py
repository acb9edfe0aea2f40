"""A ``pynvml`` without a driver: names, units and errors as the real package has them."""

# ruff: noqa: N802, N815

import re
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    def __init__(self, text: str = "Not Supported") -> None:
        super().__init__(text)


class FakeNvml:
    """GPUs of known values; functions in ``unsupported`` raise what the real ones raise."""

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0
    NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1
    NVML_FI_DEV_POWER_INSTANT = 186
    nvmlClocksEventReasonGpuIdle = 0x1
    nvmlClocksEventReasonApplicationsClocksSetting = 0x2
    nvmlClocksEventReasonSwPowerCap = 0x4
    nvmlClocksEventReasonHwSlowdown = 0x8
    nvmlClocksEventReasonSyncBoost = 0x10
    nvmlClocksEventReasonSwThermalSlowdown = 0x20
    nvmlClocksEventReasonHwThermalSlowdown = 0x40
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80
    nvmlClocksThrottleReasonBoardLimit = 0x200
    nvmlClocksThrottleReasonReliability = 0x400

    def __init__(self, gpus: int = 1, unsupported: tuple[str, ...] = ()) -> None:
        self.gpus, self.unsupported, self.reasons = gpus, set(unsupported), 0
        self.millijoules = 5_000_000
        self.open = False

    def load(self) -> Any:
        return self

    def _check(self, name: str) -> None:
        if name in self.unsupported:
            raise NVMLError

    def nvmlInit(self) -> None:
        if "nvmlInit" in self.unsupported:
            raise NVMLError("NVML Shared Library Not Found")
        self.open = True

    def nvmlShutdown(self) -> None:
        self.open = False

    def nvmlDeviceGetCount(self) -> int:
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlSystemGetDriverVersion(self) -> str:
        self._check("nvmlSystemGetDriverVersion")
        return "560.35.03"

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        self._check("nvmlDeviceGetCudaComputeCapability")
        return 8, 9

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        self._check("nvmlDeviceGetMemoryInfo")
        return SimpleNamespace(total=24564 << 20, used=(512 + 1536 * handle) << 20)

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        self._check("nvmlDeviceGetName")
        return b"NVIDIA Test"

    def nvmlDeviceGetFieldValues(self, handle: int, ids: list[int]) -> list[Any]:
        self._check("nvmlDeviceGetFieldValues")
        assert ids == [self.NVML_FI_DEV_POWER_INSTANT]
        return [SimpleNamespace(nvmlReturn=3 * ("instant" in self.unsupported), value=SimpleNamespace(uiVal=251_500))]

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        self._check("nvmlDeviceGetPowerUsage")
        return 249_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        self._check("nvmlDeviceGetTotalEnergyConsumption")
        self.millijoules += 1500
        return self.millijoules

    def nvmlDeviceGetTemperatureV(self, handle: int, sensor: int) -> int:
        self._check("nvmlDeviceGetTemperatureV")
        return 61

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        self._check("nvmlDeviceGetTemperature")
        return 62

    def nvmlDeviceGetClockInfo(self, handle: int, clock: int) -> int:
        self._check("nvmlDeviceGetClockInfo")
        return 1980

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        self._check("nvmlDeviceGetUtilizationRates")
        return SimpleNamespace(gpu=87, memory=12)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:
        self._check("nvmlDeviceGetCurrentClocksEventReasons")
        return self.reasons

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        self._check("nvmlDeviceGetCurrentClocksThrottleReasons")
        return self.reasons

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        self._check("nvmlDeviceGetEnforcedPowerLimit")
        return 400_000

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: int) -> int:
        self._check("nvmlDeviceGetPowerManagementDefaultLimit")
        return 450_000

    def nvmlDeviceGetMaxClockInfo(self, handle: int, clock: int) -> int:
        self._check("nvmlDeviceGetMaxClockInfo")
        return 3105

    def nvmlDeviceGetTemperatureThreshold(self, handle: int, threshold: int) -> int:
        self._check("nvmlDeviceGetTemperatureThreshold")
        return 95


EVERY_GPU_CALL = tuple(name for name in vars(FakeNvml) if re.match("nvmlDeviceGet(?!Count|Handle)|nvmlSystem", name))
