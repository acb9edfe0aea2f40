import pytest

from drc_deploy.bench.machine.nvidia_smi import Gpu, query_gpus, query_used_bytes
from drc_deploy.errors import MissingDependencyError

DESKTOP = "NVIDIA GeForce RTX 4090, 560.35.03, 8.9, 24564, 450.00, 3120\n"
THOR = "NVIDIA Thor, 580.00, 11.0, [N/A], [N/A], [Not Supported]\n"


def test_a_desktop_gpu_is_parsed() -> None:
    assert query_gpus(lambda fields: DESKTOP) == (
        Gpu("NVIDIA GeForce RTX 4090", "560.35.03", "8.9", 24564 << 20, 450.0, 3120.0),
    )


def test_what_a_driver_does_not_tell_is_none() -> None:
    assert query_gpus(lambda fields: DESKTOP + THOR)[1] == Gpu("NVIDIA Thor", "580.00", "11.0", None, None, None)


@pytest.mark.parametrize("line", ["No devices were found", "WARNING: infoROM is corrupted at gpu 0000:41:00.0", ""])
def test_lines_that_are_no_gpu_are_passed_over(line: str) -> None:
    assert len(query_gpus(lambda fields: f"{DESKTOP}{line}\n")) == 1


@pytest.mark.parametrize(
    ("printed", "expected"), [("512\n2048\n", 2560 << 20), ("512\n[N/A]\n", 512 << 20), ("[N/A]\n", None)]
)
def test_used_memory_is_that_of_all_gpus(printed: str, expected: int | None) -> None:
    assert query_used_bytes(lambda fields: printed) == expected


def test_without_nvidia_smi_memory_is_unknown() -> None:
    def fail(fields: str) -> str:
        raise MissingDependencyError("nvidia-smi does not run on this machine.")

    assert query_used_bytes(fail) is None


def test_a_missing_nvidia_smi_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependencyError, match="does not run"):
        query_gpus()
