"""The kinds of dual networks that the paper compares; a module of its own, so that metadata is read without torch."""

from typing import Literal

DualDesign = Literal["progressive", "single", "wide"]
"""Paper, Table 7: one dual per halving; one straight from the finest image to the input; one per halving, twice as
wide."""
