"""A run that is killed goes on as if it had not been: with real processes and real signals."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.runs import assert_same_weights

STEPS = 120


def command(output: Path) -> list[str]:
    options = f"--steps {STEPS} --batch 2 --patch 8 --ema 0.9 --save-every 0.05 --val-every 20 --learning-rate 1e-3"
    return [sys.executable, "-m", "drc_deploy", "train", "--model", "drn_xs", "-o", str(output), *options.split()]


def start(output: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command(output), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def wait_for_steps(process: "subprocess.Popen[bytes]", log: Path, steps: int) -> None:
    """Wait until the journal has come to ``steps``, or give up after a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        lines = log.read_text().splitlines() if log.exists() else []
        if any(json.loads(line)["step"] >= steps for line in lines if line.endswith("}")):
            return
        time.sleep(0.01)
    raise AssertionError(f"no step {steps}")


@pytest.mark.slow
def test_a_run_killed_twice_and_terminated_once_ends_with_the_same_weights(tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight.safetensors", tmp_path / "broken.safetensors"
    assert subprocess.run(command(straight), capture_output=True, check=False).returncode == 0
    log = tmp_path / "broken.run" / "log.jsonl"
    for steps, number, code in ((20, signal.SIGKILL, -9), (40, signal.SIGTERM, 143), (80, signal.SIGKILL, -9)):
        process = start(broken)
        wait_for_steps(process, log, steps)
        process.send_signal(number)
        assert process.wait(timeout=60) == code
        assert not broken.exists()
        assert (tmp_path / "broken.run" / "state.safetensors").exists()
    finished = subprocess.run(command(broken), capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert_same_weights(straight, broken)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    logged = [entry["step"] for entry in entries if entry["kind"] == "train"]
    assert logged == sorted(set(logged))
    assert logged[-1] == STEPS
