"""The ssh process between ``bench --remote`` and the machine that measures: one connection for everything."""

import contextlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

from drc_deploy import __version__, records
from drc_deploy.bench.remote.build_id import code_digest
from drc_deploy.bench.remote.target import Target
from drc_deploy.bench.remote.wire import Hello, LostError, Wire
from drc_deploy.errors import DrcDeployError, MissingDependencyError

MAGIC = b"drc-deploy-remote "
"""Begins the first line that counts: what a login prints before it is left out."""
MOST_LINES = 10_000
"""A login that prints more says nothing else."""
SIDE = "drc_deploy.bench.remote.there"
CLOSING_S = 30.0
"""The other side ends a measurement, removes its folder and leaves within this time."""

_AS_SCP = (
    "-T",
    "-x",
    "-oClearAllForwardings=yes",
    "-oForwardAgent=no",
    "-oPermitLocalCommand=no",
    "-oRemoteCommand=none",
    "-oRequestTTY=no",
)
"""What scp gives ssh as well: settings for logging in that would get in the way of a program."""
_SSH_FAILED, _NOT_FOUND, _NOT_EXECUTABLE = 255, 127, 126


@dataclass(frozen=True, slots=True)
class Link:
    """An open connection to a machine that has the same drc-deploy."""

    wire: Wire
    clock_offset_s: float
    """How far its clock is ahead."""


@contextlib.contextmanager
def connect(target: Target, python: str) -> Iterator[Link]:
    """Start ``python`` on ``target``; when the block ends, however it does, the other side cleans up.

    Raises:
        MissingDependencyError: there is no ssh here, or not this drc-deploy there.
        DrcDeployError: ssh cannot log in, or the connection is lost.
    """
    ssh = shutil.which("ssh")
    if ssh is None:
        raise MissingDependencyError("there is no ssh on this machine.", "Install the OpenSSH client.")
    unattended = [] if _somebody_answers() else ["-oBatchMode=yes"]
    command = [ssh, *_AS_SCP, *unattended, *target.ssh_words, f"exec {_quoted(python)} -m {SIDE}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdin
    assert process.stdout
    try:
        wire = Wire(process.stdout.fileno(), process.stdin.fileno(), target.text)
        yield _greeted(wire, process, target, python)
    except LostError as error:
        raise DrcDeployError(
            f"the connection to {target.text} was lost: ssh ended with exit code {_end(process)}.",
            "Type the same command again; with --remote-dir, what was copied is not copied again.",
        ) from error
    finally:
        _end(process)


def _somebody_answers() -> bool:
    """Whether ssh may ask for a password: there is a terminal, and this program is in its foreground."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _quoted(python: str) -> str:
    """Quote a path for the shell there, where a program starts in the home folder."""
    return shlex.quote(python.removeprefix("~/"))


def _greeted(wire: Wire, process: "subprocess.Popen[bytes]", target: Target, python: str) -> Link:
    """Wait for the other side's first words, and check that it is the same program."""
    try:
        lines = (wire.line(None) for _ in range(MOST_LINES))
        line = next(line for line in lines if line.startswith(MAGIC))
    except (LostError, StopIteration) as error:
        raise _no_greeting(_end(process), target, python) from error
    values = records.parse_json_object(line.removeprefix(MAGIC), target.text)
    hello = records.from_dict(Hello, values, target.text)
    offset_s = hello.time_s - time.time()
    if hello.version != __version__:
        raise _install(f"{target.text} has drc-deploy {hello.version}, and this is {__version__}", target, python)
    if hello.code != code_digest():
        raise _install(f"{target.text} has another drc-deploy {__version__} than this one", target, python)
    return Link(wire, offset_s)


def _no_greeting(code: int, target: Target, python: str) -> DrcDeployError:
    """Say why the other side did not begin; what ssh, shell or Python said of it is on standard error already."""
    if code == _SSH_FAILED:
        return DrcDeployError(
            f"ssh cannot log in to {target.text}.", f"Try it: `{target.shell_command('true')}`; ssh said why above."
        )
    if code in (_NOT_FOUND, _NOT_EXECUTABLE):
        return MissingDependencyError(
            f"{target.text} has no program {python}.",
            "Give the Python that drc-deploy is installed for there, such as `--remote-python venv/bin/python`, a "
            "path from the home folder.",
        )
    return _install(f"{python} on {target.text} cannot run drc-deploy (exit code {code})", target, python)


def _install(problem: str, target: Target, python: str) -> MissingDependencyError:
    wheel = f"drc_deploy-{__version__}-py3-none-any.whl"
    install = target.shell_command(f"{_quoted(python)} -m pip install --force-reinstall --no-deps ./{wheel}")
    return MissingDependencyError(
        f"{problem}.",
        f"Install this one: `pip wheel --no-deps -w dist .` in its folder, `{target.copy_command(f'dist/{wheel}')}`, "
        f"`{install}` (without --no-deps the first time); or name another Python with --remote-python.",
    )


def _end(process: "subprocess.Popen[bytes]") -> int:
    """Close the connection, which ends the other side's work, and give the exit code of ssh."""
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    try:
        return process.wait(CLOSING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
