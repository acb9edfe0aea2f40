"""Folders that are there only when they are complete, and replaced as a whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drc_deploy.errors import UsageError
from drc_deploy.files import cannot_write, check_writable
from drc_deploy.only_one import only_one


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Make an empty folder next to ``target``, and remove it after the block unless it was renamed.

    Its name is always the same, so that two processes meet there, and what a killed one left is found.

    Raises:
        OutputError: it cannot be written, or another process makes the same folder.
    """
    folder = target.parent / f".{target.name}.unfinished"
    try:
        check_writable(folder)
        with only_one(folder):
            _clear(folder)  # a process may have been killed
            ours = folder.stat()
            _take_back(target)
            try:
                yield folder
            finally:
                # After the rename, another process may have made its own.
                if folder.exists() and os.path.samestat(ours, folder.stat()):
                    shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise cannot_write(target, error) from error


def check_folder(target: Path) -> None:
    """Check that ``target`` can be replaced, as far as its content does not matter.

    Raises:
        UsageError: it is a file, a mounted disk or the working folder.
    """
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file.", "Choose another folder.")
    if os.path.ismount(target) or target == Path.cwd():
        raise UsageError(f"{target} is in use and cannot be replaced.", "Give a folder in it.")


def put_in_place(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``. What was there is removed last, and comes back where the rename fails."""
    if target.exists():
        target.rename(_aside(target))
    try:
        new.rename(target)
    except OSError:
        _take_back(target)
        raise
    shutil.rmtree(_aside(target), ignore_errors=True)


def _clear(folder: Path) -> None:
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def _take_back(target: Path) -> None:
    """Undo the half of a replacement that a killed process left."""
    if target.exists():
        shutil.rmtree(_aside(target), ignore_errors=True)
    elif _aside(target).exists():
        _aside(target).rename(target)
