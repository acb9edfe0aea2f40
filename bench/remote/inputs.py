"""Files that ``bench --remote`` copies to the machine that measures, and their names there and here.

Engines and images lie in folders named after their content: a kept folder needs each only once, and images of another
run are never measured along.
"""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drc_deploy import pairs
from drc_deploy.engine_info import blind_parts, read_sidecar, sidecar_path
from drc_deploy.errors import InputError, UsageError
from drc_deploy.files import sha256_of
from drc_deploy.images.finding import IMAGE_SUFFIXES

_DIGITS = 16
"""Of the SHA-256 in the name of a folder."""


@dataclass(slots=True)
class Inputs:
    """Files to be copied."""

    files: dict[str, Path] = field(default_factory=dict)
    """Path there -> file here."""
    digests: dict[str, str] = field(default_factory=dict)
    """Path there -> SHA-256."""
    names: dict[str, str] = field(default_factory=dict)
    """Path there -> path here, as a report names it."""

    def add_engine(self, engine: Path) -> str:
        """Add an engine and the files that it needs, and return its path there.

        Raises:
            InputError: a file cannot be read.
        """
        folder = f"engines/{_sha256(engine)[:_DIGITS]}"
        for path in (engine, *_companions(engine)):
            there = f"{folder}/{path.name}"
            self.files[there], self.digests[there] = path, _sha256(path)
        self.names[f"{folder}/{engine.name}"] = str(engine)
        return f"{folder}/{engine.name}"

    def add_images(self, data: Path, lr_folder: str | None) -> str:
        """Add the images of a folder of pairs, and return the folder's path there.

        Raises:
            InputError: a file cannot be read, or there are no images.
            UsageError: ``lr_folder`` is not inside ``data``.
        """
        if lr_folder and (Path(lr_folder).is_absolute() or ".." in Path(lr_folder).parts):
            raise UsageError(f"{lr_folder} is not inside {data}.", "Give the name of a folder in it, such as LRx4.")
        pairs.find_images(data, pairs.HR_FOLDER)
        found = {
            f"{name}/{path.name}": path
            for name in (pairs.HR_FOLDER, *([lr_folder] if lr_folder else _folders(data, r"(LRx|kernels_x)\d+")))
            for path in sorted((data / name).glob("*"))
            if path.suffix.lower() in {*IMAGE_SUFFIXES, ".npz"} and path.is_file()
        }
        digests = {name: _sha256(path) for name, path in found.items()}
        folder = f"images/{hashlib.sha256(repr(digests).encode()).hexdigest()[:_DIGITS]}"
        self.files |= {f"{folder}/{name}": path for name, path in found.items()}
        self.digests |= {f"{folder}/{name}": sha256 for name, sha256 in digests.items()}
        self.names[folder] = str(data)
        return folder

    def as_here(self, value: Any) -> Any:
        """Return a JSON value of a report with the names of the files here."""
        if isinstance(value, str):
            for there, here in self.names.items():
                value = value.replace(there, here)
            return value
        if isinstance(value, list):
            return [self.as_here(item) for item in value]
        if isinstance(value, dict):
            return {self.as_here(key): self.as_here(item) for key, item in value.items()}
        return value


def _companions(engine: Path) -> list[Path]:
    """Return the files that serve an engine.

    Those are a plan's sidecar and the ONNX that recomputes tiles in FP32, and the parts of a blind network.
    """
    if engine.suffix not in (".plan", ".onnx"):
        return []
    sidecar = read_sidecar(engine) if engine.suffix == ".plan" else None
    onnx = engine.with_name(sidecar.onnx_file) if sidecar else engine.with_suffix(".onnx")
    files = (engine, *blind_parts(engine), onnx, *blind_parts(onnx))
    wanted = dict.fromkeys(path for file in files for path in (file, sidecar_path(file)))  # in this order, each once
    return [path for path in wanted if path != engine and path.is_file()]


def _folders(data: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in data.iterdir() if re.fullmatch(pattern, path.name) and path.is_dir())


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.", "Check the path.") from error
