import ctypes
from typing import Any

import pynvml
import pytest

from drc_deploy.export.trt.gpu import find_gpu


class FakeDriver:
    """libcuda of a machine with ``count`` GPUs of compute capability 8.7."""

    def __init__(self, count: int = 1, status: int = 0) -> None:
        self.count, self.status = count, status

    def cuInit(self, flags: int) -> int:  # noqa: N802 (the driver's name)
        assert flags == 0
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.count
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        assert size == 256
        name.value = b"Orin"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 7}[attribute]  # the numbers of cuda.h
        return 0


def test_the_first_gpu_is_described() -> None:
    gpu = find_gpu(lambda name: FakeDriver())
    assert gpu is not None
    assert (gpu.name, gpu.compute_capability) == ("Orin", "8.7")


@pytest.mark.parametrize("driver", [FakeDriver(count=0), FakeDriver(status=100)])
def test_a_driver_without_a_gpu_is_none(driver: FakeDriver) -> None:
    assert find_gpu(lambda name: driver) is None


def test_no_driver_is_none() -> None:
    assert find_gpu(lambda name: ctypes.CDLL("libdoes_not_exist.so.1")) is None


def test_without_a_driver_its_version_is_unknown() -> None:
    gpu = find_gpu(lambda name: FakeDriver())
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert gpu is not None
        assert gpu.driver is None
    else:
        pytest.skip("this machine has a driver")
