"""The sources and settings of a plan: where none has changed, the plan in place need not be built again."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.engine_info import PlanSidecar, read_sidecar
from drc_deploy.errors import ArtefactError
from drc_deploy.files import sha256_of

RECIPE = 1
"""Version of the settings of ``builders.py`` that no sidecar has; raised when they change."""


def _built_from(sidecar: PlanSidecar) -> dict[str, object]:
    """Return all that decides on the content of a plan, by the names that users read when one has changed."""
    return {
        "onnx": sidecar.onnx_sha256,
        "builder": sidecar.builder,
        "builder version": sidecar.builder_version,
        "gpu": sidecar.gpu,
        "compute capability": sidecar.compute_capability,
        "driver": sidecar.driver,
        "precision": sidecar.precision_requested,
        "tile": sidecar.engine.tile,
        "max batch": sidecar.engine.max_batch,
        "workspace": sidecar.workspace_mib,
        **{name.replace("_", " "): value for name, value in dataclasses.asdict(sidecar.options).items()},
        "recipe": sidecar.recipe,
    }


def _changes(old: PlanSidecar, new: PlanSidecar) -> list[str]:
    """Return what differs, field by field."""
    before, now = _built_from(old), _built_from(new)
    return [f"{name} from {_short(before[name])} to {_short(now[name])}" for name in now if before[name] != now[name]]


def _short(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", False: "no", True: "yes"}[value]
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) < 64 else f"{text[:12]}..."  # the beginning of a SHA-256 identifies it


@dataclass(frozen=True, slots=True)
class PlanInPlace:
    """The plan that an export would replace, as far as it can be kept."""

    sidecar: PlanSidecar | None
    """None when the plan must be built."""
    history: str
    """One sentence for the user: kept or built, and why."""

    @classmethod
    def compare(cls, plan: Path, wanted: PlanSidecar) -> "PlanInPlace":
        """Compare the file ``plan`` and its sidecar, which may be missing or damaged, with the plan that is wanted."""
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
        if changes := _changes(sidecar, wanted):
            return cls(None, f"{rebuilt}: changed are {', '.join(changes)}.")
        kept = (
            f"Kept {plan.name}: same ONNX, {wanted.builder} {wanted.builder_version}, GPU, driver, shapes and options."
        )
        return cls(sidecar, kept)
