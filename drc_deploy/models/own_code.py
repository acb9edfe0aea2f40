"""Networks that users wrote: ``FILE.py:NAME`` or ``package.module:NAME``, a class or a function that builds a module.

Loading one runs its code. So a checkpoint only names the code, with the SHA-256 of its file, and the code of a
checkpoint runs only where its user has imported the same code before, with ``drc-deploy import --network``.
"""

import hashlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from types import ModuleType
from typing import Any

from torch import nn

from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.files import sha256_of
from drc_deploy.input_files import no_file


@dataclass(frozen=True, slots=True)
class OwnCode:
    """A source file, and the name in it that builds a network."""

    source: str
    """As the user typed it, with the absolute path of a file."""
    file: Path
    sha256: str
    """Of the file."""
    module: str
    """Name of the module."""
    name: str

    @property
    def target(self) -> str:
        """The module and the name."""
        return f"{self.module}:{self.name}"


def find_code(reference: str) -> OwnCode:
    """Find the file that a reference names, without running it; the packages above a module are imported.

    Raises:
        UsageError: it names no file of Python source.
    """
    place, _, name = reference.rpartition(":")
    if not place or not name.isidentifier():
        raise UsageError(f"{reference!r} names no network.", "Give FILE.py:NAME or package.module:NAME.")
    if place.endswith(".py"):
        file = Path(place).expanduser().resolve()
        module, source = file.stem, f"{file}:{name}"
    else:
        file, module, source = _file_of_module(place), place, reference
    if not os.path.isfile(file):
        kind = no_file(file)
        problem = f"{file} is {kind}, not a file." if kind else f"there is no file {file}."
        raise UsageError(problem, "Check --network.")
    return OwnCode(source, file, sha256_of(file), module, name)


def _file_of_module(module: str) -> Path:
    try:
        found = importlib.util.find_spec(module)
    except Exception:  # a package above it is missing, or fails as it is imported
        found = None
    if found is None or not (found.origin or "").endswith(".py"):
        raise UsageError(f"Python finds no source of a module {module!r}.", "Give FILE.py:NAME, or install it.")
    return Path(str(found.origin))


def build(code: OwnCode, settings: Mapping[str, Any]) -> nn.Module:
    """Run the code and build the network.

    Raises:
        UsageError: the code fails, has no such name, or what it builds is no module.
    """
    try:
        module = _load(code)
        network = getattr(module, code.name)(**settings) if hasattr(module, code.name) else None
    except Exception as error:  # the code may raise anything
        raise UsageError(
            f"{code.source} could not build a network: {type(error).__name__}: {error}.",
            "Check the code, its arguments (--kwargs), and that Python finds what it imports (PYTHONPATH).",
        ) from error
    if not hasattr(module, code.name):
        raise UsageError(f"{code.file} has no {code.name}.", f"It has {', '.join(_classes(module)) or 'no nn.Module'}.")
    if not isinstance(network, nn.Module):
        raise UsageError(
            f"{code.source} built {type(network).__name__}, which is no torch.nn.Module.", "Give a class or a factory."
        )
    return network


def _load(code: OwnCode) -> Any:
    if not code.source.startswith("/") and code.source.startswith(code.module):
        return importlib.import_module(code.module)
    name = f"_drc_deploy_{code.sha256[:16]}"  # no module that a user imports has this name
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, code.file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _classes(module: ModuleType) -> list[str]:
    """Return the names of the networks that a module of one's own defines."""
    values = vars(module).items()
    return [
        name
        for name, value in values
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    ]


def trust(code: OwnCode, settings: Mapping[str, Any]) -> None:
    """Remember that the user of this machine runs this code with these settings.

    Raises:
        OSError: the folder of the user's data is not writable.
    """
    mark = _mark(code.source, code.sha256, settings)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def find_trusted(source: str, sha256: str, settings: Mapping[str, Any]) -> OwnCode:
    """Return the code that a checkpoint names.

    Raises:
        ArtefactError: it is not there, was changed, or this user never imported it.
    """
    arguments = f" --kwargs {quote(json.dumps(settings))}" if settings else ""
    here = f"drc-deploy import THIS_FILE --network {quote(source)}{arguments} -o NEW_FILE"
    moved = f"drc-deploy import THIS_FILE --network FILE.py:NAME{arguments} -o NEW_FILE"
    anew = "import the weights again, and prune and train again what was made of them. ONNX files need no code."
    if not _mark(source, sha256, settings).exists():
        raise ArtefactError(
            f"its network is the code {source}, which you have never imported here.",
            f"If you trust that code, import the file with it, wherever it is: {here}.",
        )
    try:
        code = find_code(source)
    except UsageError as error:
        raise ArtefactError(
            f"its network is code that is gone: {error.message}",
            f"Put it back. Or import the file with the code at its new place: {moved}.",
        ) from error
    if code.sha256 != sha256:
        raise ArtefactError(f"{code.file} was changed after the network was imported.", f"Undo the change, or {anew}")
    return code


def _mark(source: str, sha256: str, settings: Mapping[str, Any]) -> Path:
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    text = json.dumps([source, sha256, settings], sort_keys=True)
    return Path(data) / "drc-deploy" / "networks" / hashlib.sha256(text.encode()).hexdigest()
