"""Programs of the machine that are run for their output."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from drc_deploy.errors import DrcDeployError, MissingDependencyError

TIMEOUT_S = 10.0


def run_command(
    command: Sequence[str],
    *,
    timeout_s: float | None = None,
    error: type[DrcDeployError] = MissingDependencyError,
    env: Mapping[str, str] | None = None,
    may_fail: bool = False,
) -> str:
    """Run a command and return its output, error messages included.

    Args:
        command: The program and its arguments.
        timeout_s: None: ``TIMEOUT_S``.
        error: The type of error to raise.
        env: Variables to set in addition. The language is none: the output is parsed.
        may_fail: Return the output of a command that fails too.

    Raises:
        DrcDeployError: the command is missing, failed, or did not end.
    """
    name, timeout_s = Path(command[0]).name, timeout_s or TIMEOUT_S
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env={**os.environ, "LC_ALL": "C", **(env or {})},
        )
    except OSError as problem:
        raise error(f"{name} does not run on this machine.") from problem
    except subprocess.TimeoutExpired as problem:
        raise error(f"{name} did not answer within {timeout_s:.0f} s.") from problem
    if done.returncode != 0 and not may_fail:
        raise error(f"{name} failed: {_reason(done.stdout)}.")
    return done.stdout


def _reason(output: str) -> str:
    """Return the first line that is marked as an error, as TensorRT does, or else the last line."""
    lines = [line.strip().rstrip(".") for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "[E]" in line), lines[-1] if lines else "it printed nothing")
