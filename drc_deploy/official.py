"""The DRN authors' released ``.pt`` files: plain state dicts, and lists of state dicts for the duals."""

from pathlib import Path

import torch
from torch import Tensor

from drc_deploy.checkpoint import Checkpoint, check_weights, to_plain_weights
from drc_deploy.errors import ArtefactError
from drc_deploy.files import sha256_of
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.state_dict_file import is_state_dict, load_tensors, read_state_dict


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
    state = read_state_dict(weights)
    with torch.device("meta"):
        network = build_network(ModelSpec(model, scale))
    names = [layer.read[0].tensor for layer in network.prunable_layers]
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


def load_dual_states(path: Path) -> dict[str, Tensor]:
    """Read a list of state dicts as the state dict of an ``nn.ModuleList``: dense float32 on the CPU.

    Raises:
        ArtefactError: missing, damaged, a pickle with code in it, or no list of state dicts.
    """
    loaded = load_tensors(path)
    if not isinstance(loaded, list) or not loaded or not all(map(is_state_dict, loaded)):
        raise ArtefactError(f"{path} is not a list of state dicts.", "Give a dual model file of the authors.")
    joined = {f"{i}.{name}": tensor for i, state in enumerate(loaded) for name, tensor in state.items()}
    return to_plain_weights(joined, str(path))
