"""Ctrl-C between two steps, never inside one, so that the state that is then saved is that of a whole step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def whole_step() -> Iterator[None]:
    """Hold Ctrl-C back until the block is over.

    Raises:
        KeyboardInterrupt: at the end, when Ctrl-C was pressed inside.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return
    pressed = False

    def remember(_signal: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True

    previous = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if pressed:
        raise KeyboardInterrupt
