"""How threads of torch wait for each other: asleep after a moment, so that other programs do not slow them down."""

import os

VARIABLE = "GOMP_SPINCOUNT"
"""Read by GNU's OpenMP, which comes with torch, when torch is imported."""
TIMES = "1000"
"""By itself the library looks for work 300,000 times before a thread sleeps, and 1,000 times where it has more threads
than there are cores. It knows nothing of other programs: where these run, a thread that looks keeps the core from the
one that it waits for."""


def let_waiting_threads_sleep() -> None:
    """Set it for this process and its children, unless the user has. Call it before torch is imported."""
    os.environ.setdefault(VARIABLE, TIMES)


def wait_as_torch_does() -> None:
    """Take it back, for code that is measured as others run it. Call it before torch is imported."""
    if os.environ.get(VARIABLE) == TIMES:
        del os.environ[VARIABLE]
