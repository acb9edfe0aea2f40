"""One command under one condition: what it left, and whether it succeeds once the condition is gone."""

import hashlib
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import av

from tests.hostile.conditions.commands import Command
from tests.hostile.conditions.disk import FILLER
from tests.hostile.conditions.outcome import run

Content = dict[str, str]
"""Names in a folder and the SHA-256 of files; of a folder, nothing."""


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What a command makes on a large disk."""

    content: Content
    most_bytes: int
    """On its disk at the end."""
    largest: int
    """Bytes of its largest file."""


def undisturbed(command: Command, folder: Path) -> Undisturbed:
    """Run a command in an empty folder, and empty it again."""
    outcome = run(command.arguments, folder, _nothing)
    if outcome.code:
        raise RuntimeError(f"{command.name} ended with {outcome.code}: {outcome.printed}")
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    made = Undisturbed(content_of(folder), sum(sizes), max(sizes))
    empty(folder)
    return made


def trial(
    command: Command,
    folder: Path,
    expected: Content,
    around: AbstractContextManager[object],
    inside: Callable[[], None] | None = None,
) -> tuple[str, list[str]]:
    """Run a command in an empty folder under a condition, and again without it; empty the folder.

    Args:
        command: the command.
        folder: its working folder.
        expected: what it makes undisturbed.
        around: makes the condition, for all processes.
        inside: makes it in the command's process.

    Returns:
        "done" or "refused", and what is wrong.
    """
    with around:
        first = run(command.arguments, folder, inside or _nothing)
    faults = [first.fault()]
    if first.code:
        left = [name for name in content_of(folder) if not any(fnmatch(name, pattern) for pattern in command.keeps)]
        faults += [f"left {name} ({first.printed[-120:]!r})" for name in left]
        again = run(command.arguments, folder, _nothing)
        faults.append(f"not again: {again.printed[-300:]}" if again.code else "")
    faults += _differences(command, content_of(folder), expected)
    empty(folder)
    return "refused" if first.code else "done", [fault for fault in faults if fault]


def _differences(command: Command, content: Content, expected: Content) -> list[str]:
    """Return which results are not as an undisturbed run makes them."""
    different = sorted(name for name in content.keys() ^ expected.keys() if not _differs(command, name))
    faults = [f"{'missing' if name in expected else 'left'} in the end: {name}" for name in different]
    same = [name for name in content.keys() & expected.keys() if not _differs(command, name)]
    return faults + [f"another {name}" for name in same if content[name] != expected[name]]


def _differs(command: Command, name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in command.differs)


def content_of(folder: Path) -> Content:
    """Return what lies in a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(_bytes(path)).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
        if FILLER not in (path.name, path.parent.name)
    }


def _bytes(path: Path) -> bytes:
    """Return the content of a file; of a Matroska file, which holds a random number, that of its packets."""
    if path.suffix not in (".mkv", ".webm"):
        return path.read_bytes()
    try:
        with av.open(str(path)) as container:
            return b"".join(repr((packet.pts, bytes(packet))).encode() for packet in container.demux())
    except (av.FFmpegError, OSError) as error:
        return repr(error).encode()


def empty(folder: Path) -> None:
    """Remove all that lies in a folder."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _nothing() -> None:
    return
