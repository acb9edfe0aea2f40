"""Damage that once led to a fault and was mended: ``saved.txt`` has a line for each, and the tests read them all.

A line is ``NAME | DAMAGE | SEED``: the example, what was done to it, and the seed of that. Examples are made anew by
the libraries that are installed, so that with other versions the same line may damage another place.
"""

from dataclasses import dataclass
from pathlib import Path

SAVED = Path(__file__).with_name("saved.txt")
_SEPARATOR = " | "


@dataclass(frozen=True)
class Damaged:
    """An example that is damaged in one way."""

    name: str
    how: str
    seed: int

    def line(self) -> str:
        """Return the line of the file."""
        return _SEPARATOR.join((self.name, self.how, str(self.seed)))


def read_saved(path: Path = SAVED) -> list[Damaged]:
    """Read the lines of the file; those that begin with # are for people."""
    lines = (line.split(_SEPARATOR) for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return [Damaged(name, how, int(seed)) for name, how, seed in lines]
