"""One ssh login to the machine that measures: every command after the first uses the same connection.

The first command is ``there.py``. It keeps the folder of the run as long as its standard input is open, so nothing
stays there when the connection or this process ends, however that happens.
"""

import contextlib
import hashlib
import io
import json
import re
import shlex
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeVar, cast

from drc_deploy import records
from drc_deploy.bench.remote import streams
from drc_deploy.bench.remote.streams import Incoming, Outgoing, print_messages, silent
from drc_deploy.bench.remote.target import Target
from drc_deploy.bench.remote.there import BEGIN, RESULTS
from drc_deploy.bench.report.records import CROPS_FOLDER
from drc_deploy.bench.report.report_files import REPORT_FILE
from drc_deploy.errors import ArtefactError, DrcDeployError, InputError, MissingDependencyError
from drc_deploy.only_one import folder_made_locked
from drc_deploy.progress import progress

MOST_RESULT_BYTES = 1 << 28
"""No report with its crops comes near this."""
SSH_FAILED = 255
_BEAT_S, _CLOSING_S = 10.0, 30.0
_MESSAGES_S = 5.0
"""For the last messages of a program that has ended; what it started may keep its standard error open."""
_RESULT_NAME = re.compile(rf"{RESULTS}/({re.escape(REPORT_FILE)}|{CROPS_FOLDER}/[\w-][\w.-]*\.png)")
_OPTIONS = (
    *("-T", "-x", "-oForwardAgent=no", "-oPermitLocalCommand=no", "-oRemoteCommand=none", "-oRequestTTY=no"),
    *("-oClearAllForwardings=yes", "-oControlPersist=no", "-oServerAliveInterval=15", "-oServerAliveCountMax=4"),
)
"""Without settings of a login that get in the way of a program. A connection that is silent for a minute is lost."""

Record = TypeVar("Record")


class Connection:
    """The connection, as long as ``there.py`` runs."""

    def __init__(self, ssh: Sequence[str], target: Target, there: str) -> None:
        self._target = target
        # Where the connection is gone, ssh would log in anew: not through a proxy that does nothing.
        self._ssh = [*ssh, "-oProxyCommand=false", *target.ssh_words]
        self._process = subprocess.Popen(
            [*ssh, "-oControlMaster=yes", *target.ssh_words, there],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._incoming = Incoming(_stream(self._process.stdout), target.text)
        self._messages = print_messages(_stream(self._process.stderr), target.text)
        self._over, self._writing = threading.Event(), threading.Lock()
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._over.wait(_BEAT_S):
            self._write(b"")

    def _write(self, line: bytes) -> None:
        with self._writing, contextlib.suppress(OSError, ValueError):  # who reads the reply finds out
            _stream(self._process.stdin).write(line + b"\n")

    def greeted(self) -> bool:
        """Wait for ``there.py``, and return whether it runs.

        Raises:
            DrcDeployError: nothing comes, or too much.
        """
        return self._incoming.begins(BEGIN.encode())

    def receive(self, kind: type[Record]) -> Record:
        """Return the next record that ``there.py`` prints.

        Raises:
            DrcDeployError: it has ended, or is silent.
            ArtefactError: it prints something else.
        """
        source = f"the answer of {self._target.text}"
        return records.from_dict(kind, records.parse_json_object(self._line(), source), source)

    def _line(self) -> bytes:
        """Return the next line that is no sign of life."""
        while (line := self._incoming.readline()) == b"\n":
            pass
        if line.endswith(b"\n"):
            return line
        raise self._ended(self.close(), f"the run on {self._target.text} failed", "The reason is above.")

    def _ended(self, code: int, problem: str, hint: str) -> DrcDeployError:
        if 0 < code < SSH_FAILED:
            return DrcDeployError(f"{problem} (exit code {code}).", hint)
        return DrcDeployError(
            f"the connection to {self._target.text} was lost.",
            "Type the same command again. With --remote-dir, files are not copied twice.",
        )

    def run(self, words: Sequence[str]) -> int:
        """Run drc-deploy there and return its exit code; its messages come on standard error.

        Raises:
            DrcDeployError: the connection is lost, or the other side is silent.
        """
        self._write(json.dumps(words).encode())
        line = self._line()
        if not re.fullmatch(rb"-?\d{1,9}\n", line):
            raise ArtefactError(f"{self._target.text} sent no exit code.", "Install drc-deploy there.")
        return int(line)

    def copy(self, files: Mapping[str, Path], digests: Mapping[str, str], folder: str) -> None:
        """Copy files into ``folder`` there, to the relative paths that are the keys.

        Raises:
            InputError: a file is no longer the one of its SHA-256 in ``digests``.
            DrcDeployError: they cannot be copied.
        """
        # Without times and owners: the clock there may be behind, and root would keep the owners.
        with (
            self._tar(f"exec tar -xmof - -C {shlex.quote(folder)}", subprocess.PIPE, subprocess.DEVNULL) as process,
            progress("copy", len(files)) as bar,
            tarfile.open(
                fileobj=cast("IO[bytes]", Outgoing(_stream(process.stdin), self._target.text)),
                mode="w|",
                format=tarfile.GNU_FORMAT,
            ) as archive,
        ):
            for name, path in files.items():
                _add(archive, name, path, digests[name])
                bar.advance(note=path.name)

    def fetch(self, folder: str) -> dict[str, bytes]:
        """Return the report and the crops of ``folder``. Names are the other machine's and not trusted.

        Raises:
            DrcDeployError: they cannot be copied.
        """
        found, size = {}, 0
        command = f"echo {shlex.quote(BEGIN)}; exec tar -cf - -C {shlex.quote(folder)} {RESULTS}"
        with self._tar(command, subprocess.DEVNULL, subprocess.PIPE) as process:
            incoming = Incoming(_stream(process.stdout), self._target.text, MOST_RESULT_BYTES)
            incoming.begins(BEGIN.encode())
            with tarfile.open(fileobj=incoming, mode="r|") as archive:
                for member in archive:
                    size += member.size
                    if member.size < 0 or size > MOST_RESULT_BYTES:
                        raise ArtefactError(f"{self._target.text} sent no report, for it is too large.")
                    name = _RESULT_NAME.fullmatch(member.name)
                    if name and member.isfile():
                        found[name[1]] = _stream(archive.extractfile(member)).read()
            while incoming.read(tarfile.RECORDSIZE):
                pass  # blocks may follow the end of the archive, and tar fails where nobody reads them
        return found

    @contextlib.contextmanager
    def _tar(self, command: str, stdin: int, stdout: int) -> Iterator["subprocess.Popen[bytes]"]:
        process = subprocess.Popen([*self._ssh, command], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, bufsize=0)
        messages = print_messages(_stream(process.stderr), self._target.text)
        try:
            with contextlib.ExitStack() as pipes:
                for stream in filter(None, (process.stdin, process.stdout)):
                    pipes.enter_context(stream)
                with contextlib.suppress(BrokenPipeError, tarfile.TarError):  # its exit code says more
                    yield process
            process.wait(streams.PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise silent(self._target.text) from None
        finally:
            process.kill()  # does nothing to one that has ended
            process.wait()
            messages.join(_MESSAGES_S)
        if process.returncode:
            problem = f"tar on {self._target.text} cannot copy files"
            hint = "The reason is above. If the disk is full, give a folder on another one with --remote-dir."
            raise self._ended(process.returncode, problem, hint)

    def close(self) -> int:
        """End the run there, which removes its folder, and return the exit code of ssh."""
        self._over.set()
        for stream in (self._process.stdin, self._process.stdout):
            _stream(stream).close()
        try:
            return self._process.wait(_CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._messages.join(_MESSAGES_S)


@contextlib.contextmanager
def connect(target: Target, there: str) -> Iterator[Connection]:
    """Log in and run the command line ``there``; the connection is closed after the block, however it ends.

    Raises:
        MissingDependencyError: there is no ssh here.
    """
    ssh = shutil.which("ssh")
    if ssh is None:
        raise MissingDependencyError("there is no ssh on this machine.", "Install the OpenSSH client.")
    with folder_made_locked(Path("/tmp"), "drc-ssh-", 0o700) as private:  # a socket's path must be short
        connection = Connection([ssh, *_OPTIONS, f"-oControlPath={private}/ssh"], target, there)
        try:
            yield connection
        finally:
            connection.close()


def _add(archive: tarfile.TarFile, name: str, path: Path, sha256: str) -> None:
    """Add a file as ``name``, and refuse one that is not what was hashed before."""
    member, content = tarfile.TarInfo(name), b""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path} changed while it was copied.", "Type the same command again.")
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream
    return stream
