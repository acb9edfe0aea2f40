"""What a process of a cluster logs for the user, who is elsewhere."""

import logging


class Notes(logging.Handler):
    """Keeps what is logged until it is taken."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the sentence."""
        self._kept.append(record.getMessage())

    def taken(self) -> tuple[str, ...]:
        """Return what was logged since this was asked last."""
        notes, self._kept = tuple(self._kept), []
        return notes
