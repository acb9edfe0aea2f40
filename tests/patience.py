"""How long a test waits for a process: not a measure of how fast it is, but the end of one that hangs."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 500
"""Less than ``faulthandler_timeout`` in pyproject.toml, which would end all tests."""


@contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """Leave no process behind, whatever fails in the block.

    One that is left makes the machine busy, and Python's warning of it fails another test, which is under way then.
    """
    with process:
        try:
            yield process
        finally:
            process.kill()
