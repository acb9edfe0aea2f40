"""What a report that was measured on another machine says about that."""

from dataclasses import dataclass

CLOCKS_APART_S = 60.0
"""Clocks that differ by less are as good as equal: the times of a report are given to the second, for people."""


@dataclass(frozen=True, slots=True)
class RemoteOrigin:
    """The machine that measured, as the one that wrote the report knows it."""

    target: str
    """Host as it was given, with the user's name if that was given too."""
    clock_offset_s: float
    """How far its clock was ahead of the clock here."""

    def warnings(self) -> list[str]:
        """Say what makes the report less than certain."""
        if abs(self.clock_offset_s) < CLOCKS_APART_S:
            return []
        way = "ahead of" if self.clock_offset_s > 0 else "behind"
        return [
            f"The clock of {self.target} is {abs(self.clock_offset_s):.0f} s {way} the clock here; the report has the "
            "time of this machine."
        ]
