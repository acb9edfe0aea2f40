"""The architectures of spandrel, which recognises a network by its tensors.

Weights are opened by this program and handed over as a state dict: spandrel never gets a path, since it would run
TorchScript.
"""

import importlib
import inspect
import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import shorten
from types import ModuleType
from typing import Any, Literal, cast

from torch import Tensor, nn

from drc_deploy.errors import ArtefactError, MissingDependencyError

SOURCE_PREFIX = "spandrel:"
_PACKAGE = "spandrel.architectures."
_PURPOSES = {"SR", "Restoration"}
_TORCHVISION = {
    "torchvision": (),
    "torchvision.transforms": ("InterpolationMode",),
    "torchvision.transforms.functional": ("InterpolationMode", "normalize", "rotate"),
}
"""What spandrel imports of torchvision, for two architectures that are none of super-resolution."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """A network that spandrel built from a state dict."""

    network: nn.Module
    """With the weights; (N, C, H, W) in [0, 1] to (N, C, scale*H, scale*W)."""
    source: str
    target: str
    settings: dict[str, Any]
    """See ``ForeignSpec``."""
    scale: int
    channels: Literal[1, 3]


def recognise(state: Mapping[str, Tensor], source: str) -> Recognised:
    """Find the architecture and the settings of a state dict, and build its network; ``source`` names the file.

    Raises:
        ArtefactError: no architecture, or one that does not upscale or restore images, or tensors that do not fit it.
        MissingDependencyError: spandrel is not installed.
    """
    spandrel = import_spandrel()
    unknown = f"{source}: spandrel knows no architecture with these tensors, first {next(iter(state))!r}"
    own = "Give its Python class as well: drc-deploy import FILE --network mynet.py:Net."
    if max((int(part) for name in state for part in name.split(".") if part.isdecimal()), default=0) > len(state):
        # Depths are read out of the numbers in names.
        raise ArtefactError(f"{source} numbers its layers beyond those that it has.", "Download it again.")
    try:
        with _quiet():
            found = spandrel.ModelLoader().load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError as error:
        raise ArtefactError(f"{unknown}.", own) from error
    except Exception as error:  # shapes that contradict each other raise whatever the architecture meets first
        reason = shorten(str(error), 200, placeholder=" ...") or type(error).__name__
        raise ArtefactError(f"{source}: its tensors fit no network that spandrel can build: {reason}.", own) from error
    _check_purpose(found, source)
    model = found.model
    target = f"{type(model).__module__}:{type(model).__qualname__}"
    settings = _settings(type(model), model.hyperparameters, source)
    return Recognised(
        model,
        SOURCE_PREFIX + found.architecture.id,
        target,
        settings,
        found.scale,
        cast(Literal[1, 3], found.input_channels),
    )


def _check_purpose(found: Any, source: str) -> None:
    name, purpose = found.architecture.id, getattr(found, "purpose", "")
    if purpose not in _PURPOSES or found.input_channels != found.output_channels or found.input_channels not in (1, 3):
        many = f"{found.input_channels} channels in and {found.output_channels} out"
        raise ArtefactError(
            f"{source} is a {name} network for {purpose or 'masks'} with {many}, which upscales no photograph.",
            "Give a super-resolution network with 1 or 3 channels.",
        )


def build(target: str, settings: Mapping[str, Any]) -> nn.Module:
    """Build a network of spandrel with fresh weights.

    Raises:
        ArtefactError: spandrel has no such class, or the class does not take the settings.
        MissingDependencyError: spandrel is not installed.
    """
    import_spandrel()
    module, _, name = target.partition(":")
    try:
        # A file may name any module. Only those of spandrel's architectures are looked into.
        architecture = getattr(importlib.import_module(module), name) if module.startswith(_PACKAGE) else None
        if not (isinstance(architecture, type) and issubclass(architecture, nn.Module)):
            raise ImportError(target)
        with _quiet():
            return architecture(**settings)
    except Exception as error:  # settings that contradict each other raise whatever the architecture meets first
        raise ArtefactError(
            f"the installed spandrel cannot build {target}: {type(error).__name__}: {error}.",
            "Import the weights again with this version of spandrel.",
        ) from error


def import_spandrel() -> ModuleType:
    """Import spandrel, also where torchvision is missing, or is built for another torch and cannot be loaded.

    Raises:
        MissingDependencyError: spandrel is not installed.
    """
    if "spandrel" not in sys.modules:
        try:
            import torchvision  # noqa: F401
        except Exception:  # a torchvision for CUDA next to a torch without it fails with RuntimeError
            with _stand_in_for_torchvision():
                return _import_package()
    return _import_package()


def _import_package() -> ModuleType:
    try:
        with _quiet():
            return importlib.import_module("spandrel")
    except ImportError as error:
        raise MissingDependencyError(
            f"recognising a network needs spandrel, which cannot be imported: {error}.",
            "Install it: pip install 'drc-deploy[zoo]', or give the network's class with --network.",
        ) from error


@contextmanager
def _stand_in_for_torchvision() -> Iterator[None]:
    """Put empty modules in the place of torchvision for the block."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # halves that a failed import left
    modules = {name: ModuleType(name) for name in _TORCHVISION}
    for name, attributes in _TORCHVISION.items():
        vars(modules[name]).update(dict.fromkeys(attributes), __path__=[])
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of foreign architectures about themselves, such as an old way of calling torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _settings(architecture: type[nn.Module], found: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return those keyword arguments that differ from their defaults.

    Raises:
        ArtefactError: one of them is no JSON value, so that no file can keep it.
    """
    parameters = inspect.signature(architecture).parameters
    settings = {
        name: value
        for name, value in found.items()
        if name in parameters and not _equal(value, parameters[name].default)
    }
    try:
        result: dict[str, Any] = json.loads(json.dumps(settings))
    except TypeError as error:
        raise ArtefactError(
            f"{source}: a setting of {architecture.__name__} cannot be kept in a file: {error}.",
            "Give its Python class as well: drc-deploy import FILE --network mynet.py:Net.",
        ) from error
    return result


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
