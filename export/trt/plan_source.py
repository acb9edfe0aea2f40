"""What a plan was built from and how: where nothing of it has changed, the plan in place need not be built again."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.engine_info import PlanSidecar, Precision, read_sidecar
from drc_deploy.errors import ArtefactError
from drc_deploy.files import sha256_of

RECIPE = 1
"""Version of the settings that ``builders.py`` gives a build beside the fields here; raised when they change."""


@dataclass(frozen=True, slots=True)
class PlanSource:
    """All that decides on the content of a plan. The names are those that a user reads when one has changed."""

    onnx: str
    """SHA-256 of the ONNX file."""
    builder: str
    builder_version: str
    gpu: str | None
    compute_capability: str | None
    driver: str | None
    precision: Precision
    tile: tuple[int, int] | None
    max_batch: int
    workspace: int | None
    """Cap on scratch memory in MiB; None for the default."""
    version_compatible: bool
    hardware_compatible: bool
    dla_core: int | None
    recipe: int = RECIPE

    @classmethod
    def of(cls, sidecar: PlanSidecar) -> "PlanSource":
        """Read it from the sidecar of a plan."""
        return cls(
            onnx=sidecar.onnx_sha256,
            builder=sidecar.builder,
            builder_version=sidecar.builder_version,
            gpu=sidecar.gpu,
            compute_capability=sidecar.compute_capability,
            driver=sidecar.driver,
            precision=sidecar.precision_requested,
            tile=sidecar.engine.tile,
            max_batch=sidecar.engine.max_batch,
            workspace=sidecar.workspace_mib,
            **dataclasses.asdict(sidecar.options),
            recipe=sidecar.recipe,
        )

    def changes_since(self, old: "PlanSource") -> list[str]:
        """Say what differs, field by field."""
        pairs = [
            (field.name, getattr(old, field.name), getattr(self, field.name)) for field in dataclasses.fields(self)
        ]
        return [
            f"{name.replace('_', ' ')} from {_short(before)} to {_short(now)}"
            for name, before, now in pairs
            if before != now
        ]


def _short(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", False: "no", True: "yes"}[value]
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) < 64 else f"{text[:12]}..."  # of a SHA-256, the beginning tells it from another


@dataclass(frozen=True, slots=True)
class PlanInPlace:
    """The plan that an export would replace, as far as it can be kept."""

    sidecar: PlanSidecar | None
    """None when the plan must be built."""
    history: str
    """One sentence for the user: kept or built, and why."""

    @classmethod
    def compare(cls, plan: Path, wanted: PlanSource) -> "PlanInPlace":
        """Look at the file ``plan`` and its sidecar, which may be missing or damaged."""
        if not plan.is_file():
            return cls(None, f"Built {plan.name}.")
        rebuilt = f"Built {plan.name} anew"
        try:
            sidecar = read_sidecar(plan)
            intact = sidecar is not None and sidecar.plan_sha256 == sha256_of(plan)
        except (ArtefactError, OSError):
            sidecar, intact = None, False
        if sidecar is None:
            return cls(None, f"{rebuilt}: the one in place has no sidecar that can be read.")
        if not intact:
            return cls(None, f"{rebuilt}: the one in place is not the file that its sidecar describes.")
        if changes := wanted.changes_since(PlanSource.of(sidecar)):
            return cls(None, f"{rebuilt}: changed are {', '.join(changes)}.")
        kept = (
            f"Kept {plan.name}: same ONNX, {wanted.builder} {wanted.builder_version}, GPU, driver, shapes and options."
        )
        return cls(sidecar, kept)
