"""The DRN authors' released ``.pt`` files: plain state dicts, and lists of state dicts for the duals."""

import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drc_deploy.checkpoint import Checkpoint, check_weights, to_plain_weights
from drc_deploy.errors import ArtefactError
from drc_deploy.files import sha256_of
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network

WRAPPERS = ("state_dict", "model", "params_ema", "params")
"""Keys under which training programs keep a network's state dict, the first found first."""


def import_official(weights: Path, model: str, scale: int, duals: Path | None = None) -> Checkpoint:
    """Read the authors' weights, pruned or not; widths follow from the shapes of the tensors.

    Args:
        weights: A state dict of the network.
        model: Architecture, for example ``drn_s``.
        scale: Its upscaling factor.
        duals: A list with the state dict of each dual network.

    Raises:
        ArtefactError: missing, damaged, a pickle with code in it, or tensors of another model.
        UsageError: unknown model or scale.
    """
    state = load_state_dict(weights)
    with torch.device("meta"):
        network = build_network(ModelSpec(model, scale))
    names = [f"{layer.consumer}.weight" for layer in network.prunable_layers]
    for name in names:
        if name not in state or state[name].ndim != 4:
            raise ArtefactError(
                f"{weights} has no convolution {name!r}, so it is not {model} x{scale}.", "Check --model and --scale."
            )
    checkpoint = Checkpoint(
        spec=ModelSpec(model, scale, tuple(state[name].shape[1] for name in names)),
        weights=to_plain_weights(state, str(weights)),
        dual_weights=load_dual_states(duals) if duals else {},
        provenance={"stage": "import", "file": weights.name, "sha256": sha256_of(weights)},
    )
    check_weights(checkpoint, str(weights))
    return checkpoint


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a network, plain or in one of ``WRAPPERS``, without the prefix of a parallel wrapper.

    Raises:
        ArtefactError: missing, damaged, a pickle with code in it, or no state dict.
    """
    loaded = _load(path)
    inner = [loaded[key] for key in WRAPPERS if key in loaded] if isinstance(loaded, Mapping) else []
    for state in (loaded, *inner):
        if _is_state_dict(state):
            return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
    raise ArtefactError(f"{path} is not a state dict.", "Give the file as the authors released it.")


def load_dual_states(path: Path) -> dict[str, Tensor]:
    """Read a list of state dicts as the state dict of an ``nn.ModuleList``: dense float32 on the CPU.

    Raises:
        ArtefactError: missing, damaged, a pickle with code in it, or no list of state dicts.
    """
    loaded = _load(path)
    if not isinstance(loaded, list) or not loaded or not all(map(_is_state_dict, loaded)):
        raise ArtefactError(f"{path} is not a list of state dicts.", "Give a dual model file of the authors.")
    joined = {f"{i}.{name}": tensor for i, state in enumerate(loaded) for name, tensor in state.items()}
    return to_plain_weights(joined, str(path))


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(item, Tensor) for item in value.values()) and bool(value)


def _load(path: Path) -> Any:
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        raise ArtefactError(f"{path} does not exist or is not a file.", "Check the path.")
    try:
        with warnings.catch_warnings():
            # torch warns about foreign pickle protocols before it refuses them; the refusal is enough.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ArtefactError(
            f"{path} is not a file of plain tensors: it may hold code, and is not opened.",
            "Only state dicts saved with torch.save can be imported.",
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ArtefactError(f"{path} is damaged or not a torch file.", "Download it again.") from error
