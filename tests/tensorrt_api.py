"""The recorded attributes of the TensorRT bindings, one listing a version in ``fixtures/tensorrt_api``.

A listing holds the members of the enums with their values and the public attributes of each class. What it does not
hold of a binding is in ``UNLISTED``.
"""

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from drc_deploy.export.trt.libraries import LibraryName

LISTINGS = Path(__file__).parent / "fixtures" / "tensorrt_api"
VERSIONS = sorted(path.stem for path in LISTINGS.glob("tensorrt-*.txt"))

UNLISTED = {
    "ILogger": {"INTERNAL_ERROR", "ERROR", "WARNING"},
    "IProfiler": {"report_layer_time"},
    "Logger": {"ERROR"},
    "LayerType": {"CONVOLUTION"},
    "TensorIOMode": {"INPUT", "OUTPUT"},
}
"""Classes that the listings leave out, with the members that are in every version by NVIDIA's documentation; the test
holds them against the library that is installed."""


@dataclass(frozen=True)
class Listing:
    """One version of one binding."""

    name: str
    version: str
    enums: dict[str, dict[str, int]] = field(default_factory=dict)
    classes: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def library(self) -> LibraryName:
        """Name of the module."""
        return "tensorrt_rtx" if "rtx" in self.name else "tensorrt"

    def has(self, owner: str, name: str) -> bool:
        """Whether the class or enum ``owner``, or the module for an empty one, has the attribute ``name``."""
        if not owner:
            # Of TensorRT 8 the monitor is missing as a whole, and with it the place to put one.
            monitors = name == "IProgressMonitor" and "progress_monitor" in self.classes["IBuilderConfig"]
            return monitors or name in self.enums or name in self.classes or name in UNLISTED
        if name in {"name", "value"} and (owner in self.enums or owner in UNLISTED):
            return True  # as of all enums
        return name in UNLISTED.get(owner, ()) or name in self.enums.get(owner, self.classes.get(owner, ()))


@cache
def read_listing(version: str) -> Listing:
    """Read the listing of one of ``VERSIONS``."""
    lines = (LISTINGS / f"{version}.txt").read_text(encoding="utf-8").splitlines()
    listing = Listing(version, lines[0])
    for line in lines[1:]:
        if line.startswith("== "):
            name, attributes = line.removeprefix("== ").split(" ", 1)
            listing.classes[name] = frozenset(ast.literal_eval(attributes))
        elif not line.endswith("ABSENT"):
            name, members = line.split(" ", 1)
            listing.enums[name] = ast.literal_eval(members)
    return listing
