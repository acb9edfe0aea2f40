"""The models that can be built, by name."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from drc_deploy.errors import UsageError
from drc_deploy.models.dcls import DCLS, DCLSConfig
from drc_deploy.models.drn import DRN, DRNConfig
from drc_deploy.models.drn_e import DRNE, DRNEConfig
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.swinir import SwinIR, SwinIRConfig

Builder = Callable[[ModelSpec], SRNetwork]
"""Builds a network, pruned if the spec has widths, with freshly initialised weights."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One family member: what it is for, and how to build it at each scale."""

    summary: str
    builders: Mapping[int, Builder]
    """Scale -> builder."""


DCLS_FILTERS = {2: (7, 3, 3, 1), 3: (11, 7, 5, 1), 4: (11, 9, 7, 5, 3)}
"""Scale -> filters whose chain has 11, 21 or 31 pixels on each side: DCLS's setting 2 at x2 and x4, 1 at x3."""
SWINIR_LIGHT = SwinIRConfig(features=60, depths=(6,) * 4, heads=6, upsampler="pixelshuffledirect")
SWINIR = SwinIRConfig(features=180, depths=(6,) * 6, heads=6, upsampler="pixelshuffle")

MODELS: dict[str, Architecture] = {
    "drn_es": Architecture(
        "small DRN-E for CPUs, Jetsons and video",
        {scale: partial(DRNE, config=DRNEConfig(32)) for scale in (2, 4)},
    ),
    "drn_e": Architecture(
        "DRN-E for CPUs, Jetsons and video", {scale: partial(DRNE, config=DRNEConfig(48)) for scale in (2, 4)}
    ),
    "drn_xs": Architecture(
        "small DRN for CPUs",
        {4: partial(DRN, config=DRNConfig(8, 4)), 8: partial(DRN, config=DRNConfig(4, 4))},
    ),
    "drn_s": Architecture(
        "DRN-S of the paper",
        {4: partial(DRN, config=DRNConfig(16, 30)), 8: partial(DRN, config=DRNConfig(8, 30))},
    ),
    "drn_l": Architecture(
        "DRN-L of the paper",
        {4: partial(DRN, config=DRNConfig(20, 40)), 8: partial(DRN, config=DRNConfig(10, 36))},
    ),
    "dcls_xs": Architecture(
        "small DCLS for CPUs",
        {
            scale: partial(DCLS, config=DCLSConfig(filters, features=32, groups=2, blocks=3, latent=64))
            for scale, filters in DCLS_FILTERS.items()
        },
    ),
    "dcls": Architecture(
        "DCLS of the paper, for images with an unknown blur (x4: 69.923 G, as published)",
        {scale: partial(DCLS, config=DCLSConfig(filters)) for scale, filters in DCLS_FILTERS.items()},
    ),
    "swinir_light": Architecture(
        "SwinIR-light of the paper (x4: 9.954 G with attention, as published)",
        {scale: partial(SwinIR, config=SWINIR_LIGHT) for scale in (2, 3, 4)},
    ),
    "swinir": Architecture(
        "SwinIR of the paper (x4: 121.116 G with attention, as published)",
        {scale: partial(SwinIR, config=SWINIR) for scale in (2, 3, 4, 8)},
    ),
}


def build_network(spec: ModelSpec) -> SRNetwork:
    """Build a network, pruned if ``spec`` has widths, with freshly initialised weights.

    Raises:
        ArtefactError: code of one's own is not there, was changed, or was never imported on this machine.
        MissingDependencyError: spandrel is needed and not installed.
        UsageError: unknown model, scale that the model does not have, or impossible widths.
    """
    if spec.foreign is not None:
        from drc_deploy.models.foreign import ForeignNetwork

        return ForeignNetwork(spec, spec.foreign)
    check_scale(spec.name, spec.scale)
    return MODELS[spec.name].builders[spec.scale](spec)


def check_scale(name: str, scale: int) -> None:
    """Check that a model exists at a scale.

    Raises:
        UsageError: unknown model, or a scale that it does not have.
    """
    scales = find_architecture(name).builders
    if scale not in scales:
        raise UsageError(f"{name} has no scale {scale}.", f"Choose one of {', '.join(map(str, scales))}.")


def find_architecture(name: str) -> Architecture:
    """Return the registered architecture.

    Raises:
        UsageError: unknown name; the message lists the known ones.
    """
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Choose one of {', '.join(MODELS)}."
        raise UsageError(f"there is no model {name!r}.", hint)
    return MODELS[name]
