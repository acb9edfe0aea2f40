"""Training from foreign weights: each tensor of a file that fits goes into a new network; a report names the rest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from drc_deploy.checkpoint import load_checkpoint, to_plain_weights
from drc_deploy.errors import ArtefactError
from drc_deploy.files import sha256_of
from drc_deploy.locate import TORCH_SUFFIXES
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.official import load_dual_states
from drc_deploy.state_dict_file import read_state_dict

LISTED = 10
"""Tensors of each group that the long report names."""


@dataclass(frozen=True, slots=True)
class Matching:
    """How the tensors of a file compare to those of a module; names in the order of the module or the file."""

    matched: tuple[str, ...]
    """Of the same name and shape: copied."""
    mismatched: tuple[str, ...]
    """Of another shape, with both shapes."""
    missing: tuple[str, ...]
    """In the module, not in the file."""
    unexpected: tuple[str, ...]
    """In the file, not in the module."""

    @property
    def total(self) -> int:
        """Number of tensors in the module."""
        return len(self.matched) + len(self.mismatched) + len(self.missing)


@dataclass(frozen=True, slots=True)
class InitReport:
    """What a network and its duals took from a file."""

    source: str
    """Name of the file."""
    sha256: str
    difference: str
    """Such as ``drn_s x4 into drn_l x4``; empty where the networks are the same or the file does not say."""
    network: Matching
    duals: Matching
    duals_source: str | None = None
    """Name of the file of the duals, where they have one of their own."""
    duals_sha256: str | None = None

    @property
    def summary(self) -> str:
        """One line for people."""
        network, duals = self.network, self.duals
        counts = [f"{len(network.matched)} of {network.total} tensors"]
        counts += [f"{len(network.mismatched)} of other shape"] if network.mismatched else []
        counts += [f"{len(network.missing)} not in the file"] if network.missing else []
        counts += [f"{len(network.unexpected)} more in the file"] if network.unexpected else []
        difference = f" ({self.difference})" if self.difference else ""
        of_duals = f"; duals {len(duals.matched)} of {duals.total}" if duals.total else ""
        of_duals += f" from {self.duals_source}" if self.duals_source else ""
        return f"{self.source}{difference}: {', '.join(counts)}{of_duals}"

    @property
    def listing(self) -> str:
        """The summary, then the first names of each group that was not copied, on indented lines."""
        return "\n".join([self.summary, *_listed("", self.network), *_listed("dual ", self.duals)])


def load_initial_weights(
    network: SRNetwork, duals: nn.ModuleList, source: Path, duals_source: Path | None = None
) -> InitReport:
    """Copy every tensor of the same name and shape into ``network`` and ``duals``; the others stay as they are.

    Model, scale, widths and kind of duals may differ. Mean shifts are tensors like all others. Where this raises,
    nothing was copied.

    Args:
        network: Freshly built.
        duals: Its dual networks; may be empty.
        source: A checkpoint of this program, or a torch file (``.pt``, ``.pth``) with a state dict.
        duals_source: A torch file with a list of state dicts, used instead of the duals in ``source``.

    Raises:
        ArtefactError: a file that is missing, damaged, holds code, or has nothing that fits; or a tensor to be copied
            is NaN, infinite or no dense array of floating-point numbers.
    """
    weights, dual_weights, spec = _read(source)
    if duals_source:
        dual_weights = load_dual_states(duals_source)
    weights = network.adopt(weights)
    of_network, of_duals = _compare(weights, network), _compare(dual_weights, duals)
    if not of_network.matched:
        raise ArtefactError(f"no tensor of {source} fits {_named(network.spec)}.", "Check --init, --model and --scale.")
    if duals_source and not of_duals.matched:
        raise ArtefactError(f"no tensor of {duals_source} fits the dual networks.", "Check --model and --dual.")
    copied = _select(weights, of_network, source), _select(dual_weights, of_duals, duals_source or source)
    for module, state in zip((network, duals), copied, strict=True):
        module.load_state_dict(state, strict=False)
    return InitReport(
        source.name,
        sha256_of(source),
        _difference(spec, network) if spec else "",
        of_network,
        of_duals,
        duals_source.name if duals_source else None,
        sha256_of(duals_source) if duals_source else None,
    )


def _read(source: Path) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], ModelSpec | None]:
    """Return the tensors of the network, those of the duals, and which network they are from if the file says so."""
    if source.suffix in TORCH_SUFFIXES:
        return read_state_dict(source), {}, None
    checkpoint = load_checkpoint(source)
    return checkpoint.weights, checkpoint.dual_weights, checkpoint.spec


def _compare(found: Mapping[str, Tensor], module: nn.Module) -> Matching:
    wanted = module.state_dict()
    common = [name for name in wanted if name in found]
    return Matching(
        matched=tuple(name for name in common if found[name].shape == wanted[name].shape),
        mismatched=tuple(
            f"{name} {tuple(found[name].shape)} there, {tuple(wanted[name].shape)} here"
            for name in common
            if found[name].shape != wanted[name].shape
        ),
        missing=tuple(name for name in wanted if name not in found),
        unexpected=tuple(name for name in found if name not in wanted),
    )


def _select(found: Mapping[str, Tensor], matching: Matching, source: Path) -> dict[str, Tensor]:
    """Return the tensors that are copied, as dense float32."""
    state = to_plain_weights({name: found[name] for name in matching.matched}, str(source))
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            hint = "Use weights from before the training that made it failed."
            raise ArtefactError(f"{source}: tensor {name!r} holds NaN or infinite values.", hint)
    return state


def _named(spec: ModelSpec) -> str:
    return f"{spec.name} x{spec.scale}"


def _difference(there: ModelSpec, here: SRNetwork) -> str:
    if _named(there) != _named(here.spec):
        return f"{_named(there)} into {_named(here.spec)}"
    return "" if there.widths == here.widths else "other widths"


def _listed(kind: str, matching: Matching) -> Iterator[str]:
    groups = {
        "of other shape": matching.mismatched,
        "not in the file": matching.missing,
        "only in the file": matching.unexpected,
    }
    for title, names in groups.items():
        if names:
            yield f"  {kind}tensors {title}: {len(names)}"
            yield from (f"    {name}" for name in names[:LISTED])
        if len(names) > LISTED:
            yield f"    and {len(names) - LISTED} more"
