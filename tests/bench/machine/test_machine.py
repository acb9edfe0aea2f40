from pathlib import Path

import numpy as np

from drc_deploy.bench.machine.machine import describe_machine, machine_text
from drc_deploy.bench.machine.memory import DeviceMemory, is_gpu, peak_host_memory
from drc_deploy.errors import MissingDependencyError
from drc_deploy.proc_files import cpu_flags


def no_gpu() -> str:
    raise MissingDependencyError("There is no working NVIDIA driver (NVML Shared Library Not Found).")


def test_a_jetson_is_described_from_its_files(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: ARMv8 rev 1 (v8l)\n\nmodel name\t: other\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal:       64349604 kB\nMemFree:        1 kB\n")
    machine = describe_machine(tmp_path, no_gpu)
    assert machine.board == "NVIDIA Jetson AGX Orin Developer Kit"
    assert machine.cpu == "ARMv8 rev 1 (v8l)"
    assert machine.memory_bytes == 64349604 * 1024
    assert machine_text(machine).startswith("board      NVIDIA Jetson")


def test_instruction_sets_are_those_of_the_first_core(tmp_path: Path) -> None:
    assert cpu_flags(tmp_path) == frozenset()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("flags\t\t: fpu avx2 avx_vnni\nbugs\t:\n\nflags\t\t: fpu\n")
    assert cpu_flags(tmp_path) == {"fpu", "avx2", "avx_vnni"}
    (tmp_path / "proc/cpuinfo").write_text("Features\t: fp asimd asimddp i8mm\n")  # ARM, where nothing overflows
    assert cpu_flags(tmp_path) == frozenset()


def test_what_cannot_be_told_has_a_reason(tmp_path: Path) -> None:
    machine = describe_machine(tmp_path, no_gpu)
    assert (machine.board, machine.cpu, machine.memory_bytes, machine.gpus) == (None, None, None, ())
    assert set(machine.unavailable) == {"board", "cpu", "memory_bytes", "gpus"}


def test_this_machine_has_cores_and_numpy() -> None:
    machine = describe_machine()
    assert machine.logical_cores >= 1
    assert machine.packages["numpy"] == np.__version__


def test_peak_memory_is_the_high_water_mark_in_bytes(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t  512 kB\nVmRSS:\t  100 kB\n")
    assert peak_host_memory(status).value == 512 * 1024


def test_a_system_without_proc_has_no_peak_memory(tmp_path: Path) -> None:
    reading = peak_host_memory(tmp_path / "none")
    assert reading.value is None
    assert reading.note.startswith("unavailable")


def test_device_memory_of_a_cpu_engine_is_unavailable_and_not_zero() -> None:
    reading = DeviceMemory().read("ONNX Runtime CPUExecutionProvider")
    assert reading.value is None
    assert "CPUExecutionProvider" in reading.note


def test_devices_are_told_apart() -> None:
    on_gpu = ("ONNX Runtime CUDAExecutionProvider", "TensorRT on Orin", "torch Tesla T4", "torch Orin")
    assert all(is_gpu(name) for name in on_gpu)
    assert not any(
        is_gpu(name) for name in ("ONNX Runtime CPUExecutionProvider", "torch CPU fp32", "torch cpu", "NumPy")
    )


def test_device_memory_is_what_grew_while_the_engine_alone_was_at_work() -> None:
    used = iter([100, 600, 5000, 5030])  # another engine loads between the two blocks
    memory = DeviceMemory(lambda: next(used))
    for _ in range(2):
        with memory.watch():
            pass
    assert memory.read("torch cuda").value == 530


def test_device_memory_that_nobody_tells_stays_unknown() -> None:
    used = iter([None, 600, 600, 700])
    memory = DeviceMemory(lambda: next(used))
    for _ in range(2):
        with memory.watch():
            pass
    assert memory.read("torch cuda").value is None
