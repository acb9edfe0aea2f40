from pathlib import Path

import numpy as np

from drc_deploy.errors import MissingDependencyError
from drc_deploy.proc_files import cpu_flags
from drc_deploy.runtime.machine.machine import describe_machine, machine_text


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


def test_what_is_unknown_has_a_reason(tmp_path: Path) -> None:
    machine = describe_machine(tmp_path, no_gpu)
    assert (machine.board, machine.cpu, machine.memory_bytes, machine.gpus) == (None, None, None, ())
    assert set(machine.unavailable) == {"board", "cpu", "memory_bytes", "gpus"}


def test_this_machine_has_cores_and_numpy() -> None:
    machine = describe_machine()
    assert machine.logical_cores >= 1
    assert machine.packages["numpy"] == np.__version__
