"""Time that a run spends in updates, and what the journal holds of speed."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import torch

from drc_deploy.train.device import training_device
from drc_deploy.train.loop.trainer import Trainer


class TrainingClock:
    """Counts the time of updates and of waiting for their data; validating and saving are left out."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._seconds = self._data_s = 0.0
        self._images = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Add the time of the block to ``trainer.seconds``."""
        start = monotonic()
        try:
            yield
        finally:
            seconds = monotonic() - start
            self._trainer.seconds += seconds
            self._seconds += seconds

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Count the time of the block as that of one batch; it is part of what is counted around it."""
        start = monotonic()
        yield
        self._data_s += monotonic() - start
        self._images += self._trainer.options.batch

    def take_rates(self) -> dict[str, float]:
        """Return what the journal holds of speed since the last call.

        ``data_share`` is the share of the time in which the host was busy with data. A GPU cuts patches meanwhile.
        """
        seconds = max(self._seconds, 1e-9)
        rates = {"images_per_second": self._images / seconds, "data_share": self._data_s / seconds}
        self._seconds = self._data_s = 0.0
        self._images = 0
        return rates


class Pace:
    """Keeps the host one update ahead of a GPU: the GPU never waits, and a clock on the host shows its time."""

    def __init__(self) -> None:
        self._latest: torch.cuda.Event | None = None

    def keep(self) -> None:
        """Wait for the update before the latest, which has just been handed to the device."""
        if training_device().type != "cuda":
            return  # a CPU has finished
        before, self._latest = self._latest, torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._latest.record()
        if before:
            before.synchronize()
