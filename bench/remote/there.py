"""The part of ``bench --remote`` on the machine that measures: ``python -m drc_deploy.bench.remote.there [FOLDER]``.

It makes the folder of the run and runs the drc-deploy commands of standard input, one JSON list a line. Empty lines
are signs of life, in both directions. When standard input ends or stays silent, it ends the command and removes the
folder.
"""

import contextlib
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

import drc_deploy
from drc_deploy import __version__, records
from drc_deploy.errors import DrcDeployError, OutputError, Terminated
from drc_deploy.files import sha256_of
from drc_deploy.only_one import folder_made_locked, only_one
from drc_deploy.printing import say

BEGIN = "drc-deploy begins"
"""The line after which output counts: a login may print before it."""
RESULTS = "drc-deploy-out"
SILENCE_S = 60.0
BEAT_S = 10.0
STOPPING_S = 10.0
_SCRATCH = "drc-deploy-tmp"
_INPUTS = ("engines", "images")
_ENDS = (signal.SIGTERM, signal.SIGHUP)
_printing = threading.Lock()
_YEAR_10000_S = 253_402_300_800.0


@dataclass(frozen=True, slots=True)
class Program:
    """The program and the clock of a machine."""

    version: str
    code: str
    time_s: float
    """Seconds since 1970."""

    def __post_init__(self) -> None:
        """Refuse a time that no clock shows."""
        if not 0 <= self.time_s < _YEAR_10000_S:
            raise ValueError(f"a time of {self.time_s}")


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of a run."""

    path: str
    digests: dict[str, str]
    """SHA-256 of each file that earlier runs kept in it, by relative path."""


def main(kept: str | None = None) -> int:
    """Serve one run and return the exit code."""
    for number in _ENDS:
        signal.signal(number, _stop)
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)  # until there is a folder, and with it the duty to remove it
    try:
        say(f"{BEGIN}\n{records.to_json(Program(__version__, code_digest(), time.time()))}")
        threading.Thread(target=_beat, daemon=True).start()
        commands: SimpleQueue[list[str]] = SimpleQueue()
        threading.Thread(target=_listen, args=(commands,), daemon=True).start()
        with _workplace(kept) as folder:
            _answer(records.to_json(Folder(str(folder), _digests(folder))))
            while True:
                _answer(str(_run(commands.get(), folder)))
    except Terminated:
        return 0
    except DrcDeployError as error:
        say(f"Error: {error.message}\n       {error.hint}", err=True)
    except OSError as error:
        say(f"Error: the other machine failed: {error}.", err=True)
    return 1


def _answer(line: str) -> None:
    with _printing:  # a long line is written in pieces
        say(line)


def _beat() -> None:
    while True:
        time.sleep(BEAT_S)
        with contextlib.suppress(OSError):  # nobody listens: standard input ends as well
            _answer("")


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)  # cleaning up is not stopped
    raise Terminated


def _listen(commands: "SimpleQueue[list[str]]") -> None:
    """Pass on the commands of standard input; end the run when nothing comes any more."""
    pending = b""
    while select.select([0], [], [], SILENCE_S)[0] and (data := os.read(0, 1 << 16)):
        *lines, pending = (pending + data).split(b"\n")
        for line in filter(None, lines):
            commands.put(json.loads(line))
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def code_digest() -> str:
    """Return the SHA-256 of every file of the program: equal versions of a checkout need not be equal programs."""
    root = Path(drc_deploy.__file__).parent
    paths: dict[str, Path] = {}
    for folder, _, names in os.walk(root, followlinks=True):  # the rooms of a checkout are links
        if Path(folder).name != "__pycache__":
            files = [Path(folder) / name for name in names if not name.startswith(".")]
            paths |= {path.relative_to(root).as_posix(): path for path in files}
    digest = hashlib.sha256()
    for name in sorted(paths):
        digest.update(f"{name}\0".encode() + hashlib.sha256(paths[name].read_bytes()).digest())
    return digest.hexdigest()


@contextlib.contextmanager
def _workplace(kept: str | None) -> Iterator[Path]:
    """Make a temporary folder, or use ``kept``, whose other files stay; one run at a time is in it.

    Raises:
        OutputError: it cannot be made, or another run is in it.
    """
    with contextlib.ExitStack() as stack:
        try:
            if kept is None:
                folder = stack.enter_context(
                    folder_made_locked(Path(tempfile.gettempdir()), "drc-deploy-remote-", 0o700)
                )
            else:
                folder = Path(os.path.expanduser(kept)).absolute()
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot write {kept or 'a temporary folder'}: {error.strerror or error}.",
                "Name a folder that you may write to with --remote-dir.",
            ) from error
        if kept is not None:
            stack.enter_context(only_one(folder))
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
            for name in (RESULTS, _SCRATCH):
                shutil.rmtree(folder / name, ignore_errors=True)  # of a killed run
                (folder / name).mkdir()
            try:
                yield folder
            finally:  # an end that comes while another one is dealt with; the first has had all others ignored
                signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
        finally:
            for name in (RESULTS, _SCRATCH) * 2:  # twice: a file on its way may have come during the first time
                shutil.rmtree(folder / name, ignore_errors=True)


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files that earlier runs copied; one that cannot be read is copied again."""
    found = {}
    for path in (path for name in _INPUTS for path in (folder / name).glob("**/*") if path.is_file()):
        with contextlib.suppress(OSError):
            found[path.relative_to(folder).as_posix()] = sha256_of(path)
    return found


def _guard() -> list[str]:
    """Return the words that make a command end when this process is killed; older setpriv cannot do so."""
    words = ["setpriv", "--pdeathsig", "TERM"]
    try:
        works = subprocess.run([*words, "true"], capture_output=True, timeout=STOPPING_S, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return []
    return words if works else []


def _run(words: list[str], folder: Path) -> int:
    """Run drc-deploy and return its exit code; nothing that it started outlives this call."""
    process = subprocess.Popen(
        [*_guard(), sys.executable, "-m", "drc_deploy", *words],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder / _SCRATCH)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if words[0] == "bench" else sys.stderr,  # its table is printed by the caller
        start_new_session=True,
    )
    try:
        return process.wait()
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOPPING_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
