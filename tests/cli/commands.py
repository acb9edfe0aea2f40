"""Commands run as a user types them, in this process: a process of its own takes seconds to start."""

import io
import os
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.cli.main import main


@dataclass(frozen=True)
class Finished:
    """What a command left on its streams, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def drc(*arguments: object, cwd: Path) -> Finished:
    """Run ``drc-deploy`` in a folder."""
    out, err, before, code = io.StringIO(), io.StringIO(), Path.cwd(), 0
    os.chdir(cwd)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main([str(argument) for argument in arguments])
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        os.chdir(before)
    return Finished(code, out.getvalue(), err.getvalue())
