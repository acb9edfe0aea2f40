"""Check what every library can do on this machine, each in a process of its own: ``drc-deploy doctor``."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from drc_deploy.bench.machine.probes import PROBES, Finding
from drc_deploy.runtime.memory.host import usable_cores

TIMEOUT_S = 120.0

RunProbe = Callable[[str], "subprocess.CompletedProcess[str]"]
"""Runs one probe; returns its exit code and output."""


def run_probe(library: str) -> "subprocess.CompletedProcess[str]":
    """Run one probe in a process of its own.

    Raises:
        subprocess.TimeoutExpired: it did not end.
    """
    command = [sys.executable, "-m", "drc_deploy.bench.machine.probes", library]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def examine(libraries: Iterable[str] = tuple(PROBES), run: RunProbe = run_probe) -> list[Finding]:
    """Probe every library; a crash or a timeout becomes a finding too."""
    with ThreadPoolExecutor(min(usable_cores(), 4)) as pool:
        answers = pool.map(lambda library: _ask(library, run), libraries)
    return [finding for answer in answers for finding in answer]


def _ask(library: str, run: RunProbe) -> list[Finding]:
    try:
        done = run(library)
    except subprocess.TimeoutExpired:
        return [_broken(library, f"did not answer within {TIMEOUT_S:.0f} s")]
    if done.returncode < 0:
        return [_broken(library, f"crashes with {signal.Signals(-done.returncode).name} when it is loaded")]
    try:
        # Libraries print to standard output too; the answer is the last line.
        return [Finding(**finding) for finding in json.loads(done.stdout.strip().splitlines()[-1])]
    except (ValueError, TypeError, IndexError):
        said = done.stderr.strip().splitlines()
        return [_broken(library, f"fails when it is loaded: {said[-1] if said else 'no message'}")]


def _broken(library: str, problem: str) -> Finding:
    return Finding(library, False, problem, f"install {library} again")


def findings_text(findings: Iterable[Finding]) -> str:
    """Return a line for each finding, with what to do below those that fail."""
    lines = []
    for finding in findings:
        lines.append(f"{'yes' if finding.usable else ' no'}  {finding.name}: {finding.detail}")
        if finding.install:
            lines.append(f"       to fix it: {finding.install}")
    return "\n".join(lines)
