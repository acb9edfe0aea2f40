"""What ``bench --remote`` runs on the machine that measures: ``python -m drc_deploy.bench.remote.there``.

It talks through its standard input and output. When they close, or nothing comes for too long, the connection is lost:
it then ends the measurement and removes its folder. So it also does when it is told to end.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from drc_deploy import __version__, records
from drc_deploy.bench.remote.build_id import code_digest
from drc_deploy.bench.remote.link import MAGIC
from drc_deploy.bench.remote.wire import (
    CarriedFile,
    Coming,
    Done,
    Failure,
    Hello,
    Job,
    LostError,
    Missing,
    Outcome,
    Wire,
)
from drc_deploy.bench.remote.workplace import RESULTS, SCRATCH, Workplace, workplace
from drc_deploy.bench.report.records import CROPS_FOLDER
from drc_deploy.bench.report.report_files import REPORT_FILE
from drc_deploy.errors import DrcDeployError, OutputError, Terminated
from drc_deploy.files import atomic_path, sha256_of

SPARE_BYTES = 64 << 20
"""What a run may write beside the files that it is sent."""
STOPPING_S = 10.0
"""How long a measurement that is told to end may take over it."""
_LISTEN_S = 0.5
_COMMAND_LINE = """
import ctypes, os, runpy, signal, sys
PR_SET_PDEATHSIG = 1
getattr(ctypes.CDLL(None), "prctl", print)(PR_SET_PDEATHSIG, int(signal.SIGTERM))
if os.getppid() != {parent}:
    sys.exit(1)
runpy.run_module("drc_deploy", run_name="__main__")
"""
"""``drc-deploy`` that Linux ends when the process that started it is killed."""


def main() -> int:
    """Serve one run and give the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    wire = _wire_of_standard_streams()
    try:
        hello = Hello(__version__, code_digest(), time.time())
        wire.write(b"\n" + MAGIC + records.to_json(hello).encode() + b"\n")
        _serve(wire, wire.receive(Job))
        wire.send(Done())
    except DrcDeployError as error:
        return _fail(wire, error.message, error.hint)
    except OSError as error:  # of the machine, such as a disk that is taken away
        return _fail(wire, f"this machine failed: {error}.", "Check its disks and its memory.")
    except (LostError, KeyboardInterrupt):
        return 1
    return 0


def _fail(wire: Wire, message: str, hint: str) -> int:
    with contextlib.suppress(LostError):
        wire.send(Failure(message, hint))
    return 1


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def _wire_of_standard_streams() -> Wire:
    """Take the standard streams for the wire: native libraries print to them, and programs started here get others."""
    wire = Wire(os.dup(0), os.dup(1), "the caller")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return wire


def _serve(wire: Wire, job: Job) -> None:
    """Do a job; when this ends, however it does, nothing temporary is left.

    Raises:
        DrcDeployError: it cannot be done.
        LostError: nobody waits for it any more.
    """
    with workplace(job.folder) as place:
        _take_files(wire, job.files, place.folder)
        with wire.beating():
            for command in job.commands[:-1]:
                _prepare(wire, command, place)
            code = _run(wire, job.commands[-1], place, subprocess.DEVNULL)
        _give_results(wire, code, place.folder / RESULTS)


def _take_files(wire: Wire, files: Sequence[CarriedFile], folder: Path) -> None:
    """Return which files are not there, and take those."""
    with wire.beating():
        missing = [index for index, file in enumerate(files) if not _is_there(folder / file.path, file)]
    _check_space(folder, sum(files[index].size_bytes for index in missing))
    wire.send(Missing(tuple(missing)))
    for _ in missing:
        file = files[wire.receive(Coming).index]
        digest = hashlib.sha256()
        with atomic_path(folder / file.path) as path, path.open("wb") as stream:
            for piece in wire.content(file.size_bytes):
                digest.update(piece)
                stream.write(piece)
        if digest.hexdigest() != file.sha256:
            (folder / file.path).unlink()
            raise DrcDeployError(f"{Path(file.path).name} was changed while it was copied.", "Type the command again.")


def _is_there(path: Path, file: CarriedFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size_bytes and sha256_of(path) == file.sha256


def _check_space(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed_bytes and free < needed_bytes + SPARE_BYTES:
        mib = 1 << 20
        raise OutputError(
            f"{folder} has {free // mib} MiB free, and the run needs {(needed_bytes + SPARE_BYTES) // mib} MiB.",
            "Make room, or give a folder on another disk with --remote-dir.",
        )


def _prepare(wire: Wire, command: Sequence[str], place: Workplace) -> None:
    code = _run(wire, command, place, sys.stderr.fileno())
    if code:
        shown = " ".join([*command[:1], Path(command[1]).name, *command[2:]])
        raise DrcDeployError(f"`drc-deploy {shown}` ended with exit code {code}.", "What it said is above.")


def _run(wire: Wire, command: Sequence[str], place: Workplace, output: int) -> int:
    """Run drc-deploy with some arguments and give its exit code.

    Raises:
        LostError: nobody waits for it any more; it has been ended.
    """
    scratch = place.folder / SCRATCH
    scratch.mkdir(exist_ok=True)
    words = [sys.executable, "-c", _COMMAND_LINE.format(parent=os.getpid()), *command]
    # In a session of its own, with all that it starts, so that all of it can be ended.
    process = subprocess.Popen(
        words,
        cwd=place.folder,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=output,
        start_new_session=True,
        pass_fds=(place.lock,),
    )
    try:
        while process.poll() is None:
            wire.listen(_LISTEN_S)
        return process.returncode
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a program and all that it started."""
    process.terminate()
    try:
        process.wait(STOPPING_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _give_results(wire: Wire, code: int, folder: Path) -> None:
    report = folder / REPORT_FILE
    crops = sorted((folder / CROPS_FOLDER).glob("*.png"))
    paths = [report, *crops] if report.is_file() else []
    files = [CarriedFile(str(path.relative_to(folder)), path.stat().st_size, sha256_of(path)) for path in paths]
    wire.send(Outcome(code, tuple(files)))
    for path in paths:
        wire.write(path.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
