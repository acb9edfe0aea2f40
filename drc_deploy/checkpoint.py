"""Checkpoints: weights of a network and its duals, with where they come from, in one safetensors file."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from drc_deploy import records
from drc_deploy.checkpoint_info import (
    LENGTH_BYTES,
    METADATA_KEY,
    CheckpointInfo,
    DualDesign,
    check_header,
    metadata_in,
    parse_checkpoint_info,
    unreadable,
)
from drc_deploy.engine_info import taken_side
from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.files import atomic_path
from drc_deploy.input_files import open_file
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
            dual_design="single" if network.one_image else dual_design,
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


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Write a checkpoint atomically, with ``half`` as float16.

    Raises:
        ArtefactError: the weights are not finite, not those of the model, or too large for float16.
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
        foreign=checkpoint.spec.foreign,
    )
    tensors = {PRIMAL + name: tensor for name, tensor in checkpoint.weights.items()}
    tensors |= {DUAL + name: tensor for name, tensor in checkpoint.dual_weights.items()}
    if half:
        tensors = to_half(tensors, f"the new {path.name}", "Store it as float32.")
    with atomic_path(path) as temporary:
        # The library's own writer would put another file here, which only its owner can read, and which has no lock.
        temporary.write_bytes(save(tensors, metadata={METADATA_KEY: records.to_json(info)}))


@dataclass(frozen=True, slots=True)
class Parent:
    """A checkpoint file that others are made from, read once: the hash and the weights are of the same bytes.

    The file may be replaced during a run of days. What is then recorded still names the weights that were used.
    """

    path: Path
    """Where it was read; names it in messages."""
    sha256: str
    info: CheckpointInfo
    checkpoint: Checkpoint

    @classmethod
    def read(cls, path: Path) -> "Parent":
        """Read and check a checkpoint file.

        Raises:
            ArtefactError: missing, damaged, of another program, with tensors that do not belong to its model, or with
                NaN or infinite weights.
        """
        content, info, checkpoint = read_unchecked(path)
        check_weights(checkpoint, str(path))
        return cls(path, hashlib.sha256(content).hexdigest(), info, checkpoint)


TRAINED_SCALES = (2, 4, 8)
"""Scales whose images are made by halving."""


def read_trainable(path: Path, patch: int) -> Parent:
    """Read a checkpoint that is to be trained further, on patches of ``patch`` x ``patch`` LR pixels.

    Raises:
        ArtefactError: as ``Parent.read``.
        UsageError: of a scale that no training is for, or a network that takes no such patches.
    """
    parent = Parent.read(path)
    info = parent.info
    if info.scale not in TRAINED_SCALES:
        raise UsageError(
            f"{path} is for x{info.scale}, which nothing is trained for here.",
            "Upscale, export or measure it; training is for x2, x4 and x8.",
        )
    taken = taken_side(patch, info.multiple_of, info.minimum)
    if taken != patch:
        raise UsageError(f"{path} takes no patches of {patch}x{patch} pixels.", f"Give --patch {taken}.")
    return parent


def read_prunable(path: Path, patch: int) -> Parent:
    """Read a checkpoint that is to be pruned, by the images of patches of ``patch`` x ``patch`` LR pixels.

    Raises:
        ArtefactError: as ``Parent.read``.
        UsageError: as ``read_trainable``; or nothing in it can be cut.
    """
    parent = read_trainable(path, patch)
    if not parent.info.widths:
        reasons = parent.info.foreign.left_out if parent.info.foreign else ()
        why = f": {reasons[0].name}: {reasons[0].reason}".replace(": :", ":") if reasons else ""
        hint = "Upscale, export or measure it." if reasons else "Import it again: what can be cut is found there."
        raise UsageError(f"nothing in {path} can be cut{why}.", hint)
    return parent


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check a checkpoint where its file does not matter later.

    Raises:
        ArtefactError: as ``Parent.read``.
    """
    return Parent.read(path).checkpoint


def read_unchecked(path: Path) -> tuple[bytes, CheckpointInfo, Checkpoint]:
    """Return the bytes of a checkpoint file and what it says, without building its network.

    Raises:
        ArtefactError: missing, damaged, or of another program.
    """
    content, tensors, metadata = _read(path)
    info = parse_checkpoint_info(metadata, path)
    if foreign := sorted(name for name in tensors if not name.startswith((PRIMAL, DUAL))):
        raise ArtefactError(f"{path} has {len(foreign)} foreign tensors, first {foreign[0]!r}.", _FOREIGN_HINT)
    tensors = to_plain_weights(tensors, str(path))
    checkpoint = Checkpoint(
        spec=ModelSpec(info.model, info.scale, info.widths, info.foreign),
        weights=_strip(tensors, PRIMAL),
        dual_weights=_strip(tensors, DUAL),
        provenance=info.provenance,
        parent_sha256=info.parent_sha256,
        dual_design=info.dual_design,
    )
    return content, info, checkpoint


def _read(path: Path) -> tuple[bytes, dict[str, Tensor], dict[str, str]]:
    """Return the bytes of a safetensors file, its tensors and its metadata."""
    try:
        check_header(path)
        with open_file(path) as stream:
            content = stream.read(LENGTH_BYTES + 1)
            # The header is a JSON object. This keeps a large file of another kind out of memory.
            if content[LENGTH_BYTES:] == b"{":
                content += stream.read()
        tensors = load(content)
    except (SafetensorError, OSError, KeyError) as error:  # KeyError: a type of numbers that torch lacks
        raise unreadable(path, error) from error
    # The library returns the tensors of bytes, but not their metadata; it has found the header to be right.
    return content, tensors, metadata_in(content)


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


def to_half(weights: Mapping[str, Tensor], source: str, hint: str) -> dict[str, Tensor]:
    """Return weights rounded to float16.

    Raises:
        ArtefactError: one is too large for it; ``source`` names the weights, ``hint`` says what to do.
    """
    half = {name: tensor.half() for name, tensor in weights.items()}
    for name, tensor in half.items():
        if not torch.isfinite(tensor).all():
            raise ArtefactError(f"{source}: tensor {name!r} is too large for float16.", hint)
    return half


def check_weights(checkpoint: Checkpoint, source: str) -> None:
    """Check that the weights are finite and are exactly those of the model; ``source`` names them in errors.

    Raises:
        ArtefactError: they are not, or there is no such model; the message names the first tensor that is wrong.
    """
    try:
        with torch.device("meta"):
            network = build_network(checkpoint.spec)
            duals = network.build_duals(checkpoint.dual_design) if checkpoint.dual_weights else nn.ModuleList()
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
