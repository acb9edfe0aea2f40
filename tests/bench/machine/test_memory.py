from pathlib import Path

from drc_deploy.bench.machine.memory import DeviceMemory, is_gpu, peak_host_memory


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


def test_gpus_are_known_by_the_names_of_their_devices() -> None:
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


def test_device_memory_that_nobody_reports_stays_unknown() -> None:
    used = iter([None, 600, 600, 700])
    memory = DeviceMemory(lambda: next(used))
    for _ in range(2):
        with memory.watch():
            pass
    assert memory.read("torch cuda").value is None
