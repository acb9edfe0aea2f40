"""Progress on standard error: a live bar on a terminal, a plain line now and then elsewhere.

Of a job within ``progress_of_files``, such as the tiles of an image, the progress is a note of that of all files.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from drc_deploy.printing import one_line, say

PLAIN_INTERVAL_S = 10.0
"""Seconds between two plain lines where there is no terminal."""


class Progress(Protocol):
    """One running job."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count ``steps`` more as done; ``note`` is a short text such as the loss."""

    def expect(self, steps: int) -> None:
        """Count ``steps`` more as to be done, fewer where that is negative."""


_of_files: ContextVar[Progress | None] = ContextVar("progress of files", default=None)


@contextmanager
def progress(title: str, total: int, *, done: int = 0) -> Iterator[Progress]:
    """Show the progress of ``total`` steps; ``done`` of them are done already.

    Of the processes that ``torchrun`` starts, only the first shows it.
    """
    title, shown = one_line(title), os.environ.get("RANK", "0") == "0"
    if whole := _of_files.get():
        yield _Note(whole, title, total, done)
        return
    if shown and not sys.stderr.isatty():
        yield _PlainProgress(title, total, done)
        return
    with _rich(title, total, done, disable=not shown) as bar:
        yield bar


@contextmanager
def progress_of_files(title: str, count: int) -> Iterator[Progress]:
    """Show how many of ``count`` files are done with; one file alone shows its own progress only."""
    if count == 1:
        yield UNSEEN
        return
    with progress(title, count) as bar:
        token = _of_files.set(bar)
        try:
            yield bar
        finally:
            _of_files.reset(token)


class _Unseen:
    """Shows nothing."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        pass

    def expect(self, steps: int) -> None:
        pass


UNSEEN: Progress = _Unseen()
"""For files that are counted elsewhere, or not at all."""


class _Note:
    """A job within another, which shows it as a note."""

    def __init__(self, whole: Progress, title: str, total: int, done: int) -> None:
        self._whole, self._title, self._total, self._done = whole, title, total, done

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        self._whole.advance(0, f"{self._title} {self._done}/{self._total}" + (f", {note}" if note else ""))

    def expect(self, steps: int) -> None:
        self._total += steps


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
        parts = [f"{self._title}: {self._done}/{self._total}", *filter(None, [one_line(note)])]
        taken, steps = now - self._start, self._done - self._first
        if self._done >= self._total:
            parts.append(f"{taken:.0f} s")
        elif steps > 0:
            parts.append(f"{(self._total - self._done) * taken / steps:.0f} s left")
        say(", ".join(parts), err=True)

    def expect(self, steps: int) -> None:
        self._total += steps
        if 0 < self._total <= self._done:  # what was left is not to be done
            self.advance(0)


@contextmanager
def _rich(title: str, total: int, done: int, *, disable: bool) -> Iterator[Progress]:
    # rich takes 60 ms to import: too slow for `--help`.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column
    from rich.text import Text

    class _Shortened(TextColumn):
        """A column that may wrap is made narrow before those that may not: a long name leaves room for the count."""

        def __init__(self, text: str) -> None:
            super().__init__(text, markup=False, table_column=Column())

        def render(self, task: Task) -> Text:
            text = super().render(task)
            text.no_wrap, text.overflow = True, "ellipsis"
            return text

    columns = (
        _Shortened("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        _Shortened("{task.fields[note]}"),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
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
