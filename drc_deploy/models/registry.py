"""The models that can be built, by name."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from drc_deploy.errors import UsageError
from drc_deploy.models.drn import DRN, DRNConfig
from drc_deploy.models.network import ModelSpec, SRNetwork


@dataclass(frozen=True, slots=True)
class Architecture:
    """One family member: what it is for, and its size at each scale."""

    summary: str
    configs: Mapping[int, DRNConfig]
    """Scale -> size."""


MODELS: Mapping[str, Architecture] = {
    "drn_xs": Architecture("small DRN for tests and CPUs", {4: DRNConfig(features=8, blocks=4), 8: DRNConfig(4, 4)}),
    "drn_s": Architecture("DRN-S of the paper", {4: DRNConfig(16, 30), 8: DRNConfig(8, 30)}),
    "drn_l": Architecture("DRN-L of the paper", {4: DRNConfig(20, 40), 8: DRNConfig(10, 36)}),
}


def build_network(spec: ModelSpec) -> SRNetwork:
    """Build a network, pruned if ``spec`` has widths, with freshly initialised weights.

    Raises:
        UsageError: unknown model, scale that the model does not have, or impossible widths.
    """
    check_scale(spec.name, spec.scale)
    return DRN(spec, MODELS[spec.name].configs[spec.scale])


def check_scale(name: str, scale: int) -> None:
    """Check that a model exists at a scale.

    Raises:
        UsageError: unknown model, or a scale that it does not have.
    """
    configs = find_architecture(name).configs
    if scale not in configs:
        raise UsageError(f"{name} has no scale {scale}.", f"Choose one of {', '.join(map(str, configs))}.")


def find_architecture(name: str) -> Architecture:
    """Give the registered architecture.

    Raises:
        UsageError: unknown name; the message lists the known ones.
    """
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Choose one of {', '.join(MODELS)}."
        raise UsageError(f"there is no model {name!r}.", hint)
    return MODELS[name]
