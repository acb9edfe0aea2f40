"""A valid file, what lies around it, and what reads it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from drc_deploy import records
from drc_deploy.cli.main import cli
from drc_deploy.errors import UsageError
from tests.hostile.trial import Result, WrongResultError, attempt

Read = Callable[[Path], None]
"""Raises a ``DrcDeployError`` for a file that it refuses, and ``WrongResultError`` for a wrong result."""


@dataclass(frozen=True)
class Example:
    """A valid file of a kind, and what reads it."""

    name: str
    folder: Path
    """Holds ``template/``, in which the file lies with all that it needs."""
    file: str
    """Relative path of the file that is damaged."""
    read: Read
    refused: bool = False
    """Also where it is whole, since something else is missing that it needs."""

    @property
    def content(self) -> bytes:
        """Return the bytes of the valid file."""
        return (self.folder / "template" / self.file).read_bytes()

    def attempt(self, content: bytes) -> Result:
        """Read the file with other bytes; the place is always the same one, as some files name their neighbours."""
        place = work_place(self.folder)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.folder / "template", place, symlinks=True)
        (place / self.file).write_bytes(content)
        try:
            return attempt(self.read, place / self.file, place)
        finally:
            shutil.rmtree(place)

    def fault_when_whole(self) -> str:
        """Return what is wrong where the valid file is not read, else nothing."""
        result = self.attempt(self.content)
        expected = "refused" if self.refused else "right"
        return "" if result.kind == expected else f"{self.name} is {result.kind} when it is whole: {result.detail}"


def work_place(folder: Path) -> Path:
    """Return where the files of an example are read, and where those of its template were made."""
    return folder / "place"


def keep_template(folder: Path) -> Path:
    """Make a template of what lies in the place, and return it."""
    work_place(folder).rename(folder / "template")
    return folder / "template"


def single(folder: Path, name: str, file: str, write: Callable[[Path], object], read: Read) -> Example:
    """Return an example of a file that needs no other; ``write`` makes it."""
    place = work_place(folder / name.replace(" ", "_"))
    place.mkdir(parents=True)
    write(place / file)
    keep_template(place.parent)
    return Example(name, place.parent, file, read)


def run_command(*arguments: str) -> None:
    """Run a command of drc-deploy in this process.

    Raises:
        DrcDeployError: it refuses its input.
    """
    try:
        cli.main(list(arguments), standalone_mode=False)
    except click.ClickException as error:
        raise UsageError(error.format_message()) from error


def check_same_json(record: Any, path: Path) -> None:
    """Compare what was read of a JSON file with what Python's own reader finds there.

    Raises:
        WrongResultError: a field has another value.
    """
    _compare(records.to_dict(record), json.loads(path.read_bytes()), "$")


def _compare(ours: Any, theirs: Any, place: str) -> None:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours.keys() & theirs.keys():
            _compare(ours[key], theirs[key], f"{place}.{key}")
    elif isinstance(ours, list | tuple) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            _compare(one, other, f"{place}[{index}]")
    elif isinstance(ours, bool) != isinstance(theirs, bool) or ours != theirs:
        raise WrongResultError(f"{place} is {theirs!r:.80} in the file, and {ours!r:.80} was read")
