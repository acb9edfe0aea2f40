"""The files of the authors of DRN and SwinIR.

DRN: plain state dicts, and lists of state dicts for the duals. SwinIR: state dicts, the dual and computed buffers among
their tensors.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from drc_deploy.checkpoint import Checkpoint, check_weights, to_plain_weights
from drc_deploy.errors import ArtefactError
from drc_deploy.files import sha256_of
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.state_dict_file import is_state_dict, load_tensors, read_state_dict

DUAL_PREFIX = "dual_model."
DUAL_NAMES = {"dual_module.0.0.": "0.0.", "dual_module.1.0.": "0.2.", "dual_module.2.": "0.4."}
"""Names in the authors' files of SwinIR and DAT -> names of the same layers of ``SRNetwork.build_duals``."""
COMPUTED = ("attn_mask", "relative_position_index")
"""Last parts of the names of buffers that SwinIR's files hold, and that follow from its sizes."""


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
    state, inner_duals = split_duals(read_state_dict(weights))
    state = {name: tensor for name, tensor in state.items() if not name.endswith(COMPUTED)}
    with torch.device("meta"):
        network = build_network(ModelSpec(model, scale))
    for part in (layer.read[0] for layer in network.prunable_layers):
        if part.tensor not in state or state[part.tensor].ndim != network.get_parameter(part.tensor).ndim:
            raise ArtefactError(
                f"{weights} has no layer {part.tensor!r}, so it is not {model} x{scale}.", "Check --model and --scale."
            )
    read = [layer.read[0] for layer in network.prunable_layers]
    dual_weights = load_dual_states(duals) if duals else to_plain_weights(inner_duals, str(weights))
    checkpoint = Checkpoint(
        spec=ModelSpec(model, scale, tuple(state[s.tensor].shape[s.axis] // s.indices_per_channel for s in read)),
        weights=to_plain_weights(state, str(weights)),
        dual_weights=dual_weights,
        provenance={"stage": "import", "file": weights.name, "sha256": sha256_of(weights)},
        dual_design="single" if network.one_image else "progressive",
    )
    check_weights(checkpoint, str(weights))
    return checkpoint


def split_duals(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of the network, and those of the dual network in the same file by our names."""
    network, duals = {}, {}
    for name, tensor in state.items():
        if not name.startswith(DUAL_PREFIX):
            network[name] = tensor
            continue
        short = name.removeprefix(DUAL_PREFIX)
        prefix = next((prefix for prefix in DUAL_NAMES if short.startswith(prefix)), "")
        duals[DUAL_NAMES.get(prefix, "") + short.removeprefix(prefix)] = tensor
    return network, duals


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
