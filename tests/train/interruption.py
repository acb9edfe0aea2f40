"""Stopping a stage in the middle, as Ctrl-C does."""

from collections.abc import Callable
from typing import Any

import pytest


def interrupt_after(monkeypatch: pytest.MonkeyPatch, owner: object, method: str, calls: int) -> None:
    """Let ``method`` of a class or module work ``calls`` times and then be interrupted, once."""
    original: Callable[..., Any] = getattr(owner, method)
    count = 0

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == calls + 1:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, method, wrapper)
