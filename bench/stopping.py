"""A run that is stopped half way ends with a report of what was measured."""

import os
import signal
from types import FrameType, TracebackType
from typing import Any

import click

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
