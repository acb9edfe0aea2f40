"""Machines to measure on that are this one: behind a shell in place of ssh, and behind an ssh server."""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import drc_deploy
from tests.patience import PATIENCE_S

ROOT = Path(drc_deploy.__file__).parent.parent
PYTHON_NAME = "its py'thon $HOME"
"""A path that every shell would take apart."""


@dataclass(frozen=True)
class Host:
    """A folder that plays the other machine: its home, its temporary files, and the ``ssh`` that leads there."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def python(self) -> str:
        return str(self.home / PYTHON_NAME)

    @property
    def path(self) -> str:
        return f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def write_ssh(self, script: str) -> None:
        write_script(self.folder / "bin/ssh", script)

    def write_python(self, before: str = "", python: str = f'exec {shlex.quote(sys.executable)} "$@"') -> None:
        """Write the Python of this machine: a script that runs ``before`` and then the real one."""
        exports = f"export PYTHONPATH={shlex.quote(str(ROOT))} TMPDIR={shlex.quote(str(self.temporary))}"
        write_script(self.home / PYTHON_NAME, f"{exports} OMP_NUM_THREADS=1\n{before}\n{python}")

    def left(self) -> list[str]:
        """Return what runs left in the folder for temporary files, and the processes that still work there."""
        files = [path.name for path in self.temporary.iterdir()]
        working = [link for link in Path("/proc").glob("[0-9]*/cwd") if self._holds(link)]
        return files + [str(link) for link in working]

    def _holds(self, link: Path) -> bool:
        try:
            return os.readlink(link).startswith(str(self.temporary))
        except OSError:  # another user's, or gone
            return False

    def wait_until_nothing_is_left(self, seconds: float = PATIENCE_S) -> None:
        end = time.monotonic() + seconds
        while self.left():
            assert time.monotonic() < end, self.left()
            time.sleep(0.1)

    def wait_for_measurement(self, seconds: float = PATIENCE_S) -> None:
        """Wait until a benchmark works in its folder there."""
        end = time.monotonic() + seconds
        while not any("/proc" in name for name in self.left()):
            assert time.monotonic() < end, "no measurement began"
            time.sleep(0.05)


@contextmanager
def long_run(host: Host, work: Path) -> Iterator["subprocess.Popen[str]"]:
    """Return a measurement on ``board`` that has begun and would take ten minutes."""
    command = [sys.executable, "-m", "drc_deploy", "bench", "--workdir", str(work), "--size", "16x24"]
    command += ["--min-seconds", "600", "--remote", "board", "--remote-python", host.python]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            host.wait_for_measurement()
            yield process
        finally:
            process.kill()


def write_script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def shell_host(folder: Path) -> Host:
    """Return a machine whose ssh is a plain shell that greets; it takes the last word, as ssh does."""
    host = Host(folder)
    host.temporary.mkdir(parents=True)
    host.write_python()
    host.write_ssh(
        f"printf '%s\\n' \"$@\" > {shlex.quote(str(folder / 'arguments'))}\nfor last; do :; done\n"
        f'cd {shlex.quote(str(host.home))}\necho "Welcome to the board"\nexec sh -c "$last"'
    )
    return host


@contextmanager
def ssh_host(folder: Path) -> Iterator[Host]:
    """Run an ssh server on the loopback and give the machine behind it, which ssh knows as ``board``."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    ssh = shutil.which("ssh")
    if sshd is None or ssh is None:
        pytest.skip("there is no OpenSSH server or client")
    host = Host(folder)
    host.temporary.mkdir(parents=True)
    host.write_python()
    for name in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    port = _free_port()
    _write_server_files(folder, port)
    host.write_ssh(f'exec {ssh} -F {shlex.quote(str(folder / "config"))} "$@"')
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "server")], stderr=log)
        try:
            _wait_for(server, port, folder / "log")
            yield host
        finally:
            server.terminate()
            server.wait()


def _write_server_files(folder: Path, port: int) -> None:
    public = (folder / "host.pub").read_text()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {public}")
    shutil.copy(folder / "key.pub", folder / "authorized")
    if os.getuid() == 0:  # a server that may change users wants a place to lock them in
        os.makedirs("/run/sshd", exist_ok=True)
    (folder / "server").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    (folder / "config").write_text(
        f"Host board stranger locked\n  HostName 127.0.0.1\n  Port {port}\n  IdentitiesOnly yes\n"
        f"  StrictHostKeyChecking yes\n  IdentityAgent none\n  LocalForward {port} 127.0.0.1:1\n"
        f"  ExitOnForwardFailure yes\n  RemoteCommand echo of the configuration\n"
        f"Host stranger\n  UserKnownHostsFile {folder}/nobody\n"
        f"Host locked\n  IdentityFile {folder}/host\n"
        f"Host board stranger\n  IdentityFile {folder}/key\n"
        f"Host board locked\n  UserKnownHostsFile {folder}/known\n"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    for _ in range(100):
        if server.poll() is not None:
            pytest.skip(f"the OpenSSH server does not start: {log.read_text()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.skip("the OpenSSH server does not listen")
