"""A disk of a few MiB, which root can make, and a limit for the size of a file, which anybody can set."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILLER = ".filler"
_FILES = 512
"""As many files and folders may lie on a small disk."""


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """Mount an empty disk in the memory at ``folder``, which is made, while the block runs. Needs root, and Linux."""
    folder.mkdir()
    options = f"size={mebibytes}m,nr_inodes={_FILES},mode=0777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def free_bytes(disk: Path, free: int) -> Iterator[None]:
    """Fill a disk until about ``free`` bytes are left, in whole pages, while the block runs."""
    filler = disk / FILLER
    about = os.statvfs(disk)
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, max(about.f_bavail * about.f_frsize - free, 1))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def free_files(disk: Path, free: int) -> Iterator[None]:
    """Fill a disk with empty files until ``free`` more fit, while the block runs."""
    filler = disk / FILLER
    filler.mkdir()
    for index in range(os.statvfs(disk).f_ffree - free):
        (filler / str(index)).touch()
    try:
        yield
    finally:
        shutil.rmtree(filler)


def limit_files(largest: int) -> None:
    """Let this process write no file beyond ``largest`` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
