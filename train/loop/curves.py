"""Curves from the journal of a run, made ready to be drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Entries: TypeAlias = Sequence[Mapping[str, Any]]
"""What ``journal.read_journal`` gives."""

MEDIAN_SHARE = 1 / 50
"""Width of the running median, as a share of the points."""
DRAWN_POINTS = 2000
"""More points than a figure has columns of pixels only take time."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Finite values over the steps of a run, both (n,)."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, entries: Entries, kind: str, name: str) -> "Curve":
        """Take one value from the lines of one kind; lines without it, or where it was not finite, are left out."""
        found = [(entry["step"], entry.get(name)) for entry in entries if entry["kind"] == kind]
        points = np.array([point for point in found if point[1] is not None], np.float64).reshape(-1, 2)
        return cls(points[:, 0], points[:, 1])

    def __len__(self) -> int:
        return len(self.steps)

    def thinned(self) -> "Curve":
        """Leave out points that cannot be seen: of each stretch the lowest and the highest stay."""
        stretches = np.array_split(np.arange(len(self)), min(len(self), DRAWN_POINTS // 2)) if len(self) else []
        kept = {int(s[pick(self.values[s])]) for s in stretches for pick in (np.argmin, np.argmax)}
        return self._at(np.array(sorted(kept), int))

    def running_median(self) -> "Curve":
        """Return the median around each of at most ``DRAWN_POINTS`` points; at the ends over what is there."""
        reach = max(1, round(len(self) * MEDIAN_SHARE / 2))
        centres = np.unique(np.linspace(0, len(self) - 1, min(len(self), DRAWN_POINTS)).astype(int))
        medians = [np.median(self.values[max(0, c - reach) : c + reach + 1]) for c in centres]
        return Curve(self.steps[centres], np.array(medians))

    def best(self) -> tuple[int, float]:
        """Return step and value of the highest point, the first of equals; there must be one."""
        index = int(np.argmax(self.values))
        return int(self.steps[index]), float(self.values[index])

    def _at(self, indices: NDArray[np.int64]) -> "Curve":
        return Curve(self.steps[indices], self.values[indices])
