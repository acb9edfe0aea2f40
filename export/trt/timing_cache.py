"""TensorRT's measurements of its kernels on this machine, kept between builds.

A build times every kernel that could run a layer; with the results of an earlier build it takes seconds instead of
minutes. Only TensorRT does: TensorRT-RTX chooses kernels when a plan is loaded, and its calls of the same names only
look for a GPU.
"""

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from drc_deploy.errors import OutputError
from drc_deploy.export.trt.gpu import Gpu
from drc_deploy.export.trt.libraries import Library
from drc_deploy.export.trt.listeners import BuildLog
from drc_deploy.files import write_bytes


def timing_cache_path(library: Library, gpu: Gpu | None) -> Path | None:
    """Return the file for this library and GPU, in the user's cache folder; None where there is nothing to keep."""
    if not library.times_kernels or gpu is None:
        return None
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    name = re.sub(r"[^\w.-]+", "_", f"{library.name}-{library.version}-{gpu.name}-{gpu.compute_capability}")
    return Path(folder, "drc-deploy", f"{name}.timing")


class TimingCache:
    """The timing cache of one build; it must live as long as the build."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def attach(self, config: Any, log: BuildLog) -> None:
        """Load the file into the build; an empty cache where it is missing, damaged or of another GPU."""
        errors = list(log.errors)
        try:
            known = self._path.read_bytes()
        except OSError:
            known = b""
        if not self._set(config, known):
            # What the library says of an old file is no fault of the build.
            log.errors[:] = errors
            self._set(config, b"")

    def _set(self, config: Any, content: bytes) -> bool:
        self._cache = config.create_timing_cache(content)
        return self._cache is not None and bool(config.set_timing_cache(self._cache, False))

    def save(self) -> None:
        """Write what the build has measured; where that fails, the next build takes longer, no more."""
        if self._cache is not None:
            with contextlib.suppress(OutputError):
                write_bytes(self._path, bytes(self._cache.serialize()))
