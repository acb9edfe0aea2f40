"""Durations in the steps that a format counts in."""

from fractions import Fraction


class Ticks:
    """Rounds durations so that no error adds up: each frame ends within half a step of where it should."""

    def __init__(self, per_second: int) -> None:
        """Count in steps of 1/``per_second`` seconds."""
        self._per_second = per_second
        self._exact, self._counted = Fraction(0), 0

    def of(self, duration: Fraction, *, least: int = 0) -> int:
        """Return the steps of the next duration in seconds, ``least`` or more."""
        self._exact += duration * self._per_second
        steps = max(round(self._exact) - self._counted, least)
        self._counted += steps
        return steps
