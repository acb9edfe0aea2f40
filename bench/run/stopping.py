"""A run that is stopped half way ends with a report of what was measured."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import click

from drc_deploy import records
from drc_deploy.bench.report.records import Report
from drc_deploy.errors import OutputError
from drc_deploy.files import write_text

UNFINISHED_FILE = "unfinished.json"


EVERY_S = 10.0
"""Between two versions: summarising all rounds and writing them takes less than a hundredth of that."""


class Unfinished:
    """The file ``unfinished.json`` in the folder of a report."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / UNFINISHED_FILE
        self._kept_s: float | None = None

    def keep(self, report_so_far: Callable[[], Report], *, at_once: bool = False) -> None:
        """Write the file anew, where some time has passed since the last one or the end is near.

        A full disk stops no run.
        """
        soon = self._kept_s is not None and time.monotonic() - self._kept_s < EVERY_S
        if soon and not at_once:
            return
        with suppress(OutputError):
            write_text(self.path, records.to_json(report_so_far()) + "\n")
        self._kept_s = time.monotonic()

    def forget(self) -> None:
        """Remove the file: the whole report is written, or another run begins."""
        self._kept_s = None
        with suppress(OSError):
            self.path.unlink()


AT_ONCE = "DRC_DEPLOY_STOP_AT_ONCE"
"""Environment variable of a command whose report nobody would fetch any more."""


class GentleStop:
    """Notes the first SIGINT or SIGTERM instead of ending at once; the second ends at once.

    Only inside ``with``, at the end of which a signal that was noted takes effect as it would have; and only after
    ``begin``, for before there is nothing to keep.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._noted: signal.Signals | None = None
        self._begun = False

    def begin(self) -> None:
        """Tell that there is something to keep."""
        self._begun = AT_ONCE not in os.environ

    @property
    def asked(self) -> bool:
        """Whether the run is to end with what there is."""
        return self._noted is not None

    def __enter__(self) -> "GentleStop":
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            if callable(before):  # neither ignored, as by `nohup`, nor deadly without a word to Python
                self._before[number] = before
                signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        noted = signal.Signals(number)
        if not self._begun or self._noted is not None:
            self._before[noted](number, frame)
            return
        self._noted = noted
        try:
            click.echo("Stopping: a report of what was measured follows. Stop again to end at once.", err=True)
        except OSError:  # Ctrl-C has ended the reader of a pipe too, and nothing may break on what is still told
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if kind is None and self._noted is not None:
            self._before[self._noted](self._noted, None)
