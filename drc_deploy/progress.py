"""Progress on standard error: a live bar on a terminal, a plain line now and then elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from drc_deploy.printing import one_line, say

PLAIN_INTERVAL_S = 10.0
"""Seconds between two plain lines where there is no terminal."""


class Progress(Protocol):
    """One running job."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count ``steps`` more as done; ``note`` is a short text such as the loss."""

    def expect(self, steps: int) -> None:
        """Count ``steps`` more as to be done."""


@contextmanager
def progress(title: str, total: int, *, done: int = 0) -> Iterator[Progress]:
    """Show the progress of ``total`` steps; ``done`` of them are done already.

    Of the processes that ``torchrun`` starts, only the first shows it.
    """
    title, shown = one_line(title), os.environ.get("RANK", "0") == "0"
    if shown and not sys.stderr.isatty():
        yield _PlainProgress(title, total, done)
        return
    with _rich(title, total, done, disable=not shown) as bar:
        yield bar


class _PlainProgress:
    """A line every ``PLAIN_INTERVAL_S`` seconds and one at the end."""

    def __init__(self, title: str, total: int, done: int) -> None:
        self._title, self._total, self._done, self._first = title, total, done, done
        self._start = self._last = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        now = time.monotonic()
        if self._done < self._total and now - self._last < PLAIN_INTERVAL_S:
            return
        self._last = now
        rate = (self._done - self._first) / max(now - self._start, 1e-9)
        left = (self._total - self._done) / rate if rate > 0 else 0.0
        note = f"{note}, " if note else ""
        say(f"{self._title}: {self._done}/{self._total}, {one_line(note)}{left:.0f} s left", err=True)

    def expect(self, steps: int) -> None:
        self._total += steps


@contextmanager
def _rich(title: str, total: int, done: int, *, disable: bool) -> Iterator[Progress]:
    # rich takes 60 ms to import: too slow for `--help`.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), disable=disable) as live:
        task = live.add_task(title, total=total, completed=done, note="")

        class _Bar:
            def advance(self, steps: int = 1, note: str = "") -> None:
                live.update(task, advance=steps, note=one_line(note))

            def expect(self, steps: int) -> None:
                nonlocal total
                total += steps
                live.update(task, total=total)

        yield _Bar()
