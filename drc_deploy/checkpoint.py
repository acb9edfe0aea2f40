"""Checkpoints: weights of a network and its duals, with where they come from, in one safetensors file."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from drc_deploy import records
from drc_deploy.checkpoint_info import METADATA_KEY, CheckpointInfo, read_checkpoint_info
from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.files import atomic_path, sha256_of
from drc_deploy.models.dual_design import DualDesign
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.registry import build_network

PRIMAL = "primal."
DUAL = "dual."
_FOREIGN_HINT = "Check that the file belongs to this model, scale and program."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network's weights, and its duals' if it has them."""

    spec: ModelSpec
    """Its widths are given in full, so that the spec alone rebuilds a pruned network."""
    weights: Mapping[str, Tensor]
    """State dict of the primal network."""
    dual_weights: Mapping[str, Tensor]
    """State dict of the ``nn.ModuleList`` of duals; empty when there are none."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How the weights came to be: JSON values only."""
    parent_sha256: str | None = None
    """SHA-256 of the checkpoint that this one was made from."""
    dual_design: DualDesign = "progressive"
    """Which kind of dual networks these are."""

    @classmethod
    def of(
        cls,
        network: SRNetwork,
        duals: nn.ModuleList | None = None,
        provenance: dict[str, Any] | None = None,
        parent_sha256: str | None = None,
        dual_design: DualDesign = "progressive",
    ) -> "Checkpoint":
        """Take the weights out of live networks, as copies on the CPU."""
        return cls(
            spec=dataclasses.replace(network.spec, widths=network.widths),
            weights=_copy(network.state_dict()),
            dual_weights=_copy(duals.state_dict()) if duals is not None else {},
            provenance=provenance or {},
            parent_sha256=parent_sha256,
            dual_design=dual_design,
        )

    def build_network(self) -> SRNetwork:
        """Build the network with these weights, in evaluation mode."""
        network = build_network(self.spec)
        network.load_state_dict(self.weights)
        return network.eval()

    def build_duals(self) -> nn.ModuleList:
        """Build the dual networks with these weights, or freshly initialised when the checkpoint has none."""
        duals = build_network(dataclasses.replace(self.spec, widths=None)).build_duals(self.dual_design)
        if self.dual_weights:
            duals.load_state_dict(self.dual_weights)
        return duals.eval()


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Raises:
        ArtefactError: the weights are not finite, or not those of the model.
        OutputError: the folder is not writable or the disk is full.
    """
    check_weights(checkpoint, f"the new {path.name}")
    network = checkpoint.build_network()
    info = CheckpointInfo(
        model=checkpoint.spec.name,
        scale=checkpoint.spec.scale,
        widths=network.widths,
        duals=len(checkpoint.build_duals()) if checkpoint.dual_weights else 0,
        params=network.parameter_count,
        provenance=checkpoint.provenance,
        parent_sha256=checkpoint.parent_sha256,
        dual_design=checkpoint.dual_design,
    )
    tensors = {PRIMAL + name: tensor for name, tensor in checkpoint.weights.items()}
    tensors |= {DUAL + name: tensor for name, tensor in checkpoint.dual_weights.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={METADATA_KEY: records.to_json(info)})
        except SafetensorError as error:  # what a full disk looks like from here
            raise OSError(None, str(error)) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check a checkpoint.

    Raises:
        ArtefactError: missing, damaged, of another program, with tensors that do not belong to its model, or with
            NaN or infinite weights.
    """
    info = read_checkpoint_info(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{path} is damaged: {error}.", "Copy or make the checkpoint again.") from error
    if foreign := sorted(name for name in tensors if not name.startswith((PRIMAL, DUAL))):
        raise ArtefactError(f"{path} has {len(foreign)} foreign tensors, first {foreign[0]!r}.", _FOREIGN_HINT)
    tensors = to_plain_weights(tensors, str(path))
    checkpoint = Checkpoint(
        spec=ModelSpec(info.model, info.scale, info.widths),
        weights=_strip(tensors, PRIMAL),
        dual_weights=_strip(tensors, DUAL),
        provenance=info.provenance,
        parent_sha256=info.parent_sha256,
        dual_design=info.dual_design,
    )
    check_weights(checkpoint, str(path))
    return checkpoint


def load_with_sha256(path: Path) -> tuple[Checkpoint, str]:
    """Read a checkpoint as ``load_checkpoint`` does, and give the SHA-256 of just what was read.

    Raises:
        ArtefactError: as ``load_checkpoint``, or another file took its place meanwhile.
    """
    before = _sha256_if_there(path)
    checkpoint = load_checkpoint(path)
    if before is None or _sha256_if_there(path) != before:
        raise ArtefactError(f"{path} changed while it was read.", "Give the same command again when it is complete.")
    return checkpoint, before


def _sha256_if_there(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


def _strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def to_plain_weights(state: Mapping[Any, Tensor], source: str) -> dict[str, Tensor]:
    """Return weights as dense float32 on the CPU, each in memory of its own, as networks and files need them.

    Raises:
        ArtefactError: a tensor that is not a dense array of floating-point numbers; ``source`` names the file.
    """
    for name, tensor in state.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
            raise ArtefactError(
                f"{source}: tensor {name!r} ({tensor.dtype}, {tensor.layout}, {tensor.device}) holds no weights.",
                _FOREIGN_HINT,
            )
    plain = {str(name): tensor.detach().to("cpu", torch.float32, copy=True) for name, tensor in state.items()}
    return {name: tensor.contiguous() for name, tensor in plain.items()}


def check_weights(checkpoint: Checkpoint, source: str) -> None:
    """Check that the weights are finite and are exactly those of the model; ``source`` names them in errors.

    Raises:
        ArtefactError: they are not, or there is no such model; the message names the first tensor that is wrong.
    """
    try:
        with torch.device("meta"):
            network = build_network(checkpoint.spec)
            duals = network.build_duals(checkpoint.dual_design)
    except UsageError as error:  # nobody typed this model: it is what the file says
        raise ArtefactError(f"{source} is of no known network: {error.message}", _FOREIGN_HINT) from error
    _check_state(checkpoint.weights, network.state_dict(), source)
    if checkpoint.dual_weights:
        _check_state(checkpoint.dual_weights, duals.state_dict(), source)


def _check_state(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    if missing := sorted(expected.keys() - found.keys()):
        raise ArtefactError(f"{source} lacks {len(missing)} tensors, first {missing[0]!r}.", _FOREIGN_HINT)
    if foreign := sorted(found.keys() - expected.keys()):
        raise ArtefactError(f"{source} has {len(foreign)} foreign tensors, first {foreign[0]!r}.", _FOREIGN_HINT)
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise ArtefactError(
                f"{source}: tensor {name!r} has shape {tuple(tensor.shape)}, "
                f"but the model needs {tuple(expected[name].shape)}.",
                _FOREIGN_HINT,
            )
        if not torch.isfinite(tensor).all():
            raise ArtefactError(
                f"{source}: tensor {name!r} holds NaN or infinite values.",
                "Train again, or use an older checkpoint.",
            )
