import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drc_deploy.bench.machine.commands import run_command
from drc_deploy.bench.machine.telemetry.power_files import total_meter
from drc_deploy.bench.machine.telemetry.sensors import ProbeGroup
from drc_deploy.bench.machine.telemetry.tegrastats import Values, open_tegrastats, parse_line
from drc_deploy.errors import MissingDependencyError
from tests.bench.machine.telemetry.trees import FIXTURES

LINES = (FIXTURES / "tegrastats.txt").read_text().splitlines()

EXPECTED: list[Values] = [
    {
        ("clock", "CPU clock"): 1907,
        ("load", "GPU load"): 0,
        ("clock", "GPU clock"): 510,
        ("temperature", "AUX"): 39,
        ("temperature", "CPU"): 39.5,
        ("power", "VDD_IN"): 5.079,
        ("power", "VDD_CPU_GPU_CV"): 0.696,
        ("power", "VDD_SOC"): 1.104,
    },
    {
        ("clock", "CPU clock"): 729,
        ("load", "GPU load"): 0,
        ("temperature", "CPU"): 42.593,
        ("temperature", "tj"): 42.593,
        ("power", "VDD_GPU_SOC"): 2.399,
        ("power", "VDD_CPU_CV"): 0.4,
        ("power", "VIN_SYS_5V0"): 4.032,
        ("power", "VDDQ_VDD2_1V8AO"): 0.301,
    },
    {
        ("clock", "CPU clock"): 1036,
        ("load", "GPU load"): 0,
        ("temperature", "cpu"): 45.875,
        ("temperature", "soc2"): 45.843,
        ("temperature", "gpu"): 45.437,
        ("temperature", "tj"): 46.312,
        ("power", "VDD_IN"): 4.968,
        ("power", "VDD_CPU_GPU_CV"): 0.436,
        ("power", "VDD_SOC"): 1.708,
    },
    {
        ("clock", "CPU clock"): 2201,
        ("load", "GPU load"): 0,
        ("power", "VDD_GPU_SOC"): 2.412,
        ("power", "VDD_CPU_CV"): 1.607,
        ("power", "VIN_SYS_5V0"): 4.707,
    },
    {
        ("clock", "CPU clock"): 2201,
        ("load", "GPU load"): 12,
        ("clock", "GPU clock"): 1300,
        ("temperature", "cpu"): 52.968,
        ("temperature", "gpu"): 47.625,
        ("power", "VDD_GPU_SOC"): 5.139,
    },
    {("clock", "GPU clock"): 1000, ("power", "VDD_GPU"): -0.392, ("power", "VIN"): 23.0},
    {
        ("clock", "CPU clock"): 1428,
        ("load", "GPU load"): 99,
        ("clock", "GPU clock"): 921,
        ("temperature", "PLL"): 30,
        ("power", "POM_5V_IN"): 1.234,
        ("power", "POM_5V_GPU"): 0.04,
    },
]


@pytest.mark.parametrize(("line", "expected"), list(zip(LINES, EXPECTED, strict=True)))
def test_a_line_of_every_jetpack_is_read_whole(line: str, expected: Values) -> None:
    assert parse_line(line) == expected


@pytest.mark.parametrize(
    ("line", "total"),
    [(0, ("VDD_IN",)), (1, ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")), (5, ("VIN",)), (6, ("POM_5V_IN",))],
)
def test_the_total_of_a_line_is_never_a_part_of_it(line: int, total: tuple[str, ...]) -> None:
    assert total_meter([name for kind, name in parse_line(LINES[line]) if kind == "power"]).series == total


@pytest.mark.parametrize("line", ["", "Command not found", "tegrastats: permission denied", "RAM 1/2MB SWAP 3/4MB"])
def test_other_lines_hold_nothing(line: str) -> None:
    assert parse_line(line) == {}


def printing(*lines: str) -> tuple[str, ...]:
    """Return a command that prints some lines and ends."""
    return ("printf", "%s\n", *lines)


def test_a_value_that_a_later_line_lacks_is_a_gap_and_the_end_is_reported() -> None:
    source = open_tegrastats({"GPU clock"}, printing(LINES[5], "VIN 24000mW/22500mW", LINES[5]))
    assert [sensor.name for sensor in source.sensors] == ["VDD_GPU", "VIN"]
    assert source.sweep({}) == [None, 24.0]
    assert source.sweep({}) == [-0.392, 23.0]
    with pytest.raises(EOFError, match="tegrastats ended"):
        source.sweep({})
    source.close()
    with pytest.raises(EOFError, match="tegrastats ended"):
        source.sweep({})


def test_a_program_that_prints_nonsense_is_ended_and_reported() -> None:
    with pytest.raises(MissingDependencyError, match="no line that is known"):
        open_tegrastats((), ("sh", "-c", "echo permission denied; sleep 100000"))  # this test would wait for it


def test_programs_that_are_missing_fail_or_hang_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingDependencyError, match="tegrastats does not run"):
        open_tegrastats((), ("no-such-program",))
    with pytest.raises(MissingDependencyError, match="no-such-program does not run"):
        run_command(["no-such-program"])
    with pytest.raises(MissingDependencyError, match=r"sh failed: not as root\.$"):
        run_command(["sh", "-c", "echo not as root. >&2; exit 1"])
    monkeypatch.setattr("drc_deploy.bench.machine.commands.TIMEOUT_S", 0.1)
    with pytest.raises(MissingDependencyError, match="did not answer"):
        run_command(["sleep", "5"])


def test_a_program_that_goes_on_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    loop = f"while :; do echo VIN 5mW/5mW; date > {tmp_path}/beat; sleep 0.01; done"
    source = open_tegrastats((), ("sh", "-c", f"({loop})"))
    assert source.sweep({}) == [0.005]
    source.close()
    source.close()
    (tmp_path / "beat").unlink(missing_ok=True)
    time.sleep(0.2)
    assert not (tmp_path / "beat").exists()


def test_a_program_may_be_ended_by_several_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kill = os.killpg

    def kill_late(group: int, number: int) -> None:
        time.sleep(0.01)
        kill(group, number)

    monkeypatch.setattr("os.killpg", kill_late)
    for _ in range(5):
        source, start = open_tegrastats((), ("sh", "-c", "echo VIN 5mW/5mW; sleep 30")), threading.Barrier(8)

        def close(source: ProbeGroup = source, start: threading.Barrier = start) -> None:
            start.wait()
            source.close()

        with ThreadPoolExecutor(8) as pool:
            for closed in [pool.submit(close) for _ in range(8)]:
                closed.result()


def test_a_program_that_prints_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drc_deploy.bench.machine.telemetry.tegrastats.TIMEOUT_S", 0.2)
    with pytest.raises(MissingDependencyError, match="no line that is known"):
        open_tegrastats((), ("sh", "-c", "sleep 30; echo late"))
