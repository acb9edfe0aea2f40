"""Ctrl-C and SIGTERM between two steps, never inside one, so that the state that is then saved is of a whole step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from drc_deploy.errors import Terminated

_EXCEPTIONS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@contextmanager
def whole_step() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block is over.

    Raises:
        KeyboardInterrupt: at the end, when Ctrl-C was pressed inside.
        Terminated: at the end, when SIGTERM came inside.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return
    heard: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        heard.append(number)

    previous = {number: signal.signal(number, remember) for number in _EXCEPTIONS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if heard:
        raise _EXCEPTIONS[signal.Signals(heard[0])]
