"""The memory that the requests of a service share."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drc_deploy.errors import ImageError
from drc_deploy.runtime.memory.host import free_budget, mib

_POLL_S = 0.2


class Room:
    """Bytes that requests may take together, beyond what the networks take."""

    def __init__(self, most: int | None = None) -> None:
        """Share ``most`` bytes; None: half of what is free now, or without end where the system does not say."""
        if most is None and (budget := free_budget()):
            most = budget.limit - budget.loaded
        self._most = most
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, amount: int, check: Callable[[], None]) -> Iterator[None]:
        """Have ``amount`` bytes for as long as the block takes, when others have left so many.

        Args:
            amount: In bytes.
            check: Called now and then while it waits; its errors end that.

        Raises:
            ImageError: it is more than all requests together may take.
        """
        if self._most is not None and amount > self._most:
            raise ImageError(
                f"this image and its result take {mib(amount)} MiB, and there are {mib(self._most)} for all requests.",
                "Send a smaller image, ask for a smaller result, or for PNG, which is never held whole.",
            )
        with self._changed:
            while self._most is not None and self._taken + amount > self._most:
                check()
                self._changed.wait(_POLL_S)
            self._taken += amount
        try:
            yield
        finally:
            with self._changed:
                self._taken -= amount
                self._changed.notify_all()
