"""All examples, by group; a group is made only where one of it is wanted."""

import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from tests.hostile import artefacts, readers, works
from tests.hostile.example import Example

GROUPS: Final[Mapping[str, Callable[[Path], Iterator[Example]]]] = {
    "image": readers.images,
    "animation": readers.animations,
    "video": readers.videos,
    "network": readers.networks,
    "record": readers.records,
    "report": artefacts.reports,
    "plan": artefacts.plans,
    "suite": artefacts.suites,
    "remote": artefacts.remotes,
    "work": works.works,
}
"""The first word of the examples' names -> what makes them in a folder."""


def examples(folder: Path, only: str = "*") -> Iterator[Example]:
    """Yield the examples whose names match a pattern, made in ``folder``."""
    beginning = re.split(r"[*?\[]", only)[0]
    for group, make in GROUPS.items():
        if beginning.startswith(group) or group.startswith(beginning):
            yield from (example for example in make(folder) if fnmatch(example.name, only))
