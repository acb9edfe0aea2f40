"""What ``bench --remote`` carries to the machine that measures, and how the report calls it there and here.

Engines and images lie in folders named after their content: what is there already is found again, and images of
another run are never measured along.
"""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drc_deploy import pairs
from drc_deploy.bench.remote.wire import CarriedFile
from drc_deploy.bench.run.inputs import EngineFile
from drc_deploy.engine_info import read_sidecar, sidecar_path
from drc_deploy.errors import InputError, UsageError
from drc_deploy.files import sha256_of
from drc_deploy.images.reading import IMAGE_SUFFIXES

_DIGITS = 16
"""Of the SHA-256 in the name of a folder."""


@dataclass(slots=True)
class Cargo:
    """Files to be carried."""

    sources: list[Path] = field(default_factory=list)
    files: list[CarriedFile] = field(default_factory=list)
    """As the other machine calls ``sources``, one for one."""
    names: dict[str, str] = field(default_factory=dict)
    """Path there -> path here."""
    _paths: set[str] = field(default_factory=set)

    def add(self, source: Path, path: str, sha256: str) -> None:
        """Carry ``source`` as ``path``, once."""
        if path not in self._paths:
            self._paths.add(path)
            self.sources.append(source)
            self.files.append(CarriedFile(path, source.stat().st_size, sha256))

    def translated(self, value: Any) -> Any:
        """Return a JSON value that speaks of the files here instead of those there."""
        if isinstance(value, str):
            for there, here in self.names.items():
                value = value.replace(there, here)
            return value
        if isinstance(value, list):
            return [self.translated(item) for item in value]
        if isinstance(value, dict):
            return {self.translated(key): self.translated(item) for key, item in value.items()}
        return value


def pack_engine(cargo: Cargo, file: EngineFile) -> str:
    """Carry an engine and what it needs beside it, and give its path there.

    Raises:
        InputError: a file cannot be read.
    """
    path = file.path
    try:
        digest = sha256_of(path)
        folder = f"engines/{digest[:_DIGITS]}"
        cargo.add(path, f"{folder}/{path.name}", digest)
        for neighbour in _neighbours(path):
            cargo.add(neighbour, f"{folder}/{neighbour.name}", sha256_of(neighbour))
    except OSError as error:
        raise _unreadable(path, error) from error
    cargo.names[f"{folder}/{path.name}"] = str(path)
    return f"{folder}/{path.name}"


def _neighbours(engine: Path) -> list[Path]:
    """Return what serves a plan: its sidecar, and the ONNX that computes again what half precision breaks."""
    if engine.suffix != ".plan":
        return []
    sidecar = read_sidecar(engine)
    onnx = engine.with_name(sidecar.onnx_file) if sidecar else engine.with_suffix(".onnx")
    return [path for path in (sidecar_path(engine), onnx) if path.is_file()]


def pack_images(cargo: Cargo, data: Path, lr_folder: str | None) -> str:
    """Carry the images of a folder of pairs, and give the folder's path there.

    Raises:
        InputError: a file cannot be read, or there are no images.
        UsageError: ``lr_folder`` is not inside ``data``.
    """
    if lr_folder and (Path(lr_folder).is_absolute() or ".." in Path(lr_folder).parts):
        raise UsageError(f"{lr_folder} is not inside {data}.", "Give the name of a folder in it, such as LRx4.")
    pairs.find_images(data, pairs.HR_FOLDER)
    found = {
        f"{name}/{path.name}": path
        for name in (pairs.HR_FOLDER, *([lr_folder] if lr_folder else _lr_folders(data)))
        for path in sorted((data / name).glob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    }
    try:
        digests = {name: sha256_of(path) for name, path in found.items()}
        folder = f"images/{hashlib.sha256(repr(digests).encode()).hexdigest()[:_DIGITS]}"
        for name, path in found.items():
            cargo.add(path, f"{folder}/{name}", digests[name])
    except OSError as error:
        raise _unreadable(data, error) from error
    cargo.names[folder] = str(data)
    return folder


def _lr_folders(data: Path) -> list[str]:
    return sorted(path.name for path in data.iterdir() if re.fullmatch(r"LRx\d+", path.name) and path.is_dir())


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot read {error.filename or path}: {error.strerror or error}.", "Check the path.")
