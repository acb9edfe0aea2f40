"""Ctrl-C and SIGTERM between two steps, never inside one, and kept from processes that a command starts."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.resource_tracker import ensure_running
from types import FrameType

from drc_deploy.errors import Terminated

_EXCEPTIONS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


class HeldSignals:
    """Ctrl-C and SIGTERM that have come and wait to be heard."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def raise_first(self) -> None:
        """Let the first one interrupt the program.

        Raises:
            KeyboardInterrupt: it was Ctrl-C.
            Terminated: it was SIGTERM.
        """
        if self.heard:
            raise _EXCEPTIONS[signal.Signals(self.heard[0])]


@contextmanager
def held_signals() -> Iterator[HeldSignals]:
    """Hold Ctrl-C and SIGTERM back while the block runs; what to do about them is the block's business."""
    held = HeldSignals()
    if threading.current_thread() is not threading.main_thread():
        yield held  # only the main thread hears signals
        return

    def remember(number: int, _frame: FrameType | None) -> None:
        held.heard.append(number)

    previous = {number: signal.signal(number, remember) for number in _EXCEPTIONS}
    try:
        yield held
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def whole_step() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block is over.

    Raises:
        KeyboardInterrupt: at the end, when Ctrl-C was pressed inside.
        Terminated: at the end, when SIGTERM came inside.
    """
    with held_signals() as held:
        yield
    held.raise_first()


def start_child(process: BaseProcess) -> None:
    """Start a process; Ctrl-C and SIGTERM wait until it has all that it needs, or it would end with a traceback.

    Its target calls ``leave_signals_to_parent``.
    """
    ensure_running()  # or starting the first child would end the blocking below too early
    with whole_step():
        signal.pthread_sigmask(signal.SIG_BLOCK, _EXCEPTIONS)  # which the child inherits
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _EXCEPTIONS)


def leave_signals_to_parent() -> None:
    """Ignore, in a child, what is sent to the whole group: its parent ends it."""
    for number in _EXCEPTIONS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _EXCEPTIONS)  # what it starts in turn should not inherit that
