"""An image from standard input, and a PNG to standard output."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from drc_deploy.errors import ImageError, UsageError
from drc_deploy.files import cannot_write
from drc_deploy.images.reading import read_pipe

STREAM = "-"
"""Stands for a standard stream in the place of a file name."""


def check_streams(*, reads: bool, writes: bool) -> None:
    """Refuse, before anything is computed, a terminal or nothing where an image should come from or go to.

    Raises:
        UsageError: it is one.
    """
    for used, stream, name in ((reads, sys.stdin, "input"), (writes, sys.stdout, "output")):
        if used and stream is None:
            raise UsageError(f"standard {name} is closed.", "Open it, or give the name of a file in the place of `-`.")
    if reads and sys.stdin.isatty():
        raise UsageError("standard input is a terminal.", "Pipe an image into the command, as in `... < in.png`.")
    if writes and sys.stdout.isatty():
        raise UsageError("standard output is a terminal.", "Pipe the image on, or write it to a file: `... > out.png`.")


def read_standard_input(check_room: Callable[[int], object]) -> bytes:
    """Return all of standard input; ``check_room`` is called with its length as it grows, and its errors are passed on.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        return read_pipe(sys.stdin.buffer, check_room)
    except OSError as error:
        raise ImageError(f"standard input cannot be read: {error.strerror}.", "Check what feeds it.") from error


@contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Return a stream whose content goes to standard output when the block ends without an error.

    A reader at the other end cannot know whether more of an image follows, so it gets all or nothing.

    Raises:
        OutputError: there is no space for it, here or behind standard output.
        BrokenPipeError: the reader has gone.
    """
    try:
        with tempfile.TemporaryFile() as whole:
            yield whole
            whole.seek(0)
            # Of its own, so that Python does not try again at exit to write what this one could not.
            with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as stream:
                shutil.copyfileobj(whole, stream)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write("to standard output", error) from error
