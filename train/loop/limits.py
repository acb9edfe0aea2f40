"""Which numbers the options of training may be."""

import math
from typing import Any

from drc_deploy.errors import UsageError

LARGEST_BATCH = 4096
LARGEST_COUNT = 10**12
"""More steps than any run has; numbers that do not fit into a float would end in an error of Python's."""
LARGEST_SEED = 2**63 - 1
"""What both torch and numpy take."""


def check_counts(options: Any, *names: str) -> None:
    """Check that these fields are at least 1, that a batch can be held, and that the seed is one.

    Raises:
        UsageError: one is not; the message names it.
    """
    for name in names:
        if getattr(options, name) < 1:
            raise UsageError(f"{name} must be at least 1, not {getattr(options, name)}.", "Give a larger value.")
        if getattr(options, name) > LARGEST_COUNT:
            raise UsageError(f"{name} must be at most {LARGEST_COUNT:,}.", "Give a smaller value.")
    if options.batch > LARGEST_BATCH:
        raise UsageError(f"a batch of {options.batch} patches is too large.", f"Give at most {LARGEST_BATCH}.")
    check_seed(options.seed)


def check_seed(seed: int) -> None:
    """Check that a number can be a seed.

    Raises:
        UsageError: it is negative or too large.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"{seed} cannot be a seed.", f"Give 0 to {LARGEST_SEED}.")


def check_rates(options: Any, *names: str) -> None:
    """Check that these fields, learning rates, are above 0 and at most 1.

    Raises:
        UsageError: one is not; the message names it.
    """
    for name in names:
        if not 0 < getattr(options, name) <= 1:
            raise UsageError(f"{name} must be above 0 and at most 1, not {getattr(options, name)}.", "Try 1e-4.")


def check_not_negative(options: Any, *names: str) -> None:
    """Check that these fields are finite and not negative.

    Raises:
        UsageError: one is not; the message names it.
    """
    for name in names:
        value = getattr(options, name)
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"{name} must be a finite number of at least 0, not {value}.", "Leave the default.")
