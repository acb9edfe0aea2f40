"""A run that is killed goes on as if it had not been: with real processes and real signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drc_deploy.checkpoint_info import read_checkpoint_info
from tests.patience import PATIENCE_S
from tests.train.runs import assert_same_weights

STEPS = 60
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
"""For patches of 8x8 pixels, more threads take more time than they save."""

ONE_PROCESS = [sys.executable, "-m", "drc_deploy"]
TWO_PROCESSES = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
                 "-m", "drc_deploy"]  # fmt: skip


def command(program: list[str], output: Path, save_every_s: float) -> list[str]:
    options = f"--steps {STEPS} --batch 2 --patch 8 --ema 0.9 --branches --val-every 20 --learning-rate 1e-3"
    options += f" --save-every {save_every_s}"
    return [*program, "train", "--model", "drn_xs", "-o", str(output), *options.split()]


def start(program: list[str], output: Path) -> "subprocess.Popen[bytes]":
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(command(program, output, 0.2), stderr=nowhere, stdout=nowhere, env=ONE_THREAD)


def finish(program: list[str], output: Path) -> None:
    """Run to the end, saving at validations only: to save takes longer than a step."""
    done = subprocess.run(command(program, output, 600), capture_output=True, text=True, check=False, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr


def wait_for_steps(process: "subprocess.Popen[bytes]", log: Path, steps: int) -> None:
    """Wait until the journal has come to ``steps``; a busy machine takes a minute to import torch."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        lines = log.read_text().splitlines() if log.exists() else []
        if any(json.loads(line)["step"] >= steps for line in lines if line.endswith("}")):
            return
        time.sleep(0.01)
    raise AssertionError(f"no step {steps}")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of a run that nothing stopped."""
    output = tmp_path_factory.mktemp("straight") / "straight.safetensors"
    finish(ONE_PROCESS, output)
    return output


@pytest.mark.slow
def test_a_run_killed_and_terminated_ends_with_the_same_weights(straight: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    log = tmp_path / "broken.run" / "log.jsonl"
    for steps, number, code in ((20, signal.SIGKILL, -9), (40, signal.SIGTERM, 143)):
        process = start(ONE_PROCESS, broken)
        wait_for_steps(process, log, steps)
        process.send_signal(number)
        assert process.wait(timeout=PATIENCE_S) == code
        assert not broken.exists()
        assert (tmp_path / "broken.run" / "state.safetensors").exists()
    finish(ONE_PROCESS, broken)
    assert_same_weights(straight, broken)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    logged = [entry["step"] for entry in entries if entry["kind"] == "train"]
    assert logged == sorted(set(logged))
    assert logged[-1] == STEPS


@pytest.mark.slow
def test_two_processes_stop_together_and_end_with_nearly_the_loss_of_one(straight: Path, tmp_path: Path) -> None:
    two = tmp_path / "two.safetensors"
    process = start(TWO_PROCESSES, two)
    wait_for_steps(process, tmp_path / "two.run" / "log.jsonl", 20)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=PATIENCE_S)
    assert not two.exists()
    assert (tmp_path / "two.run" / "state.safetensors").exists()
    finish(TWO_PROCESSES, two)
    losses = [read_checkpoint_info(path).provenance["loss"] for path in (straight, two)]
    # The order of sums differs, and Adam's first steps make much of it.
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
