"""Calls on the machines of a cluster. Each takes long, and leaves its result in files that all machines see."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from drc_deploy import __version__
from drc_deploy.errors import DrcDeployError
from drc_deploy.runtime.cluster.connection import connected
from drc_deploy.runtime.cluster.notes import Notes
from drc_deploy.runtime.cluster.worker import enter
from drc_deploy.runtime.cluster.workers import MOST_ENDS, machines, share_out

_log = logging.getLogger(__name__)

Names = tuple[str, ...]
"""What a call is about."""


def calls(address: str, call: Callable[[Names], object], all_names: Iterable[Names]) -> Iterator[Names]:
    """Call a function with each of some names, and yield them in the order in which their calls come to an end.

    A call has one GPU; where no machine has one, four cores, or those of a smaller machine. One whose process ends is
    begun again, three times in all.

    Args:
        address: as for ``connected``, which says what else can go wrong.
        call: of a module that all machines have, with arguments that can be pickled.
        all_names: a call each.

    Raises:
        DrcDeployError: a call's process has ended each time.
        Exception: whatever a call raises; those under way are ended.
    """
    with connected(address):
        import ray
        from ray.exceptions import RayError, RayTaskError

        needs = share_out(machines(ray.nodes()), None).needs  # type: ignore[no-untyped-call]
        # Ray itself would begin a call that fills the memory again and again, without end.
        begin: Any = ray.remote(_called).options(max_retries=0, **needs)
        ends: Counter[Names] = Counter()

        def begun(names: Names) -> Any:
            return begin.remote(Path.cwd(), __version__, call, names)

        waiting = {begun(names): names for names in all_names}
        while waiting:
            (reference,), _ = ray.wait([*waiting])
            names = waiting.pop(reference)
            try:
                notes = ray.get(reference)
            except RayTaskError as error:
                raise error.cause from error
            except RayError as error:
                ends[names] += 1
                if ends[names] < MOST_ENDS:
                    waiting[begun(names)] = names
                    continue
                message = f"{', '.join(names)} has ended its process {MOST_ENDS} times."
                raise DrcDeployError(message, "Run it without --ray to see why.") from error
            for note in notes:
                _log.warning("%s", note)
            yield names


def _called(folder: Path, version: str, call: Callable[[Names], object], names: Names) -> tuple[str, ...]:
    """Call a function in the folder that names of files begin in; return what it has logged for the user."""
    enter(folder, version)
    notes, logger = Notes(), logging.getLogger("drc_deploy")
    logger.addHandler(notes)
    try:
        call(names)
    finally:
        logger.removeHandler(notes)
    return notes.taken()
