"""What each model costs, for people who choose one."""

from pathlib import Path
from typing import Any

import torch

from drc_deploy.errors import UsageError
from drc_deploy.locate import shipped_names
from drc_deploy.models.network import ModelSpec, multiply_adds
from drc_deploy.models.registry import MODELS, build_network, find_architecture
from drc_deploy.widths import read_widths, read_widths_file


def list_models(model: str | None, scale: int | None, widths_path: Path | None) -> list[dict[str, Any]]:
    """Count parameters and multiply-adds of every model and scale, or of those asked for.

    Args:
        model: Only this architecture.
        scale: Only this scale.
        widths_path: Count the pruned network with these widths.

    Returns:
        Rows with ``model``, ``scale``, ``params``, ``madds`` (one 96x96 input), ``widths``, ``shipped``, ``summary``.

    Raises:
        UsageError: unknown model or scale, or widths that do not fit.
        ArtefactError: a widths file that cannot be read.
    """
    if widths_path is not None:
        return [_pruned_row(model, scale, widths_path)]
    names = [model] if model else list(MODELS)
    rows = [_row(ModelSpec(name, s)) for name in names for s in find_architecture(name).builders if scale in (None, s)]
    if not rows:
        raise UsageError(f"no such model has a scale of {scale}.", "Type `drc-deploy models` to see all of them.")
    return rows


def _pruned_row(model: str | None, scale: int | None, path: Path) -> dict[str, Any]:
    if path.suffix == ".json":
        content = read_widths_file(path)
        model, scale = model or content.model, scale or content.scale
    if model is None:
        raise UsageError(f"{path} does not say which model its widths belong to.", "Add --model and --scale.")
    scale = scale or 4
    return _row(ModelSpec(model, scale, read_widths(path, model=model, scale=scale)))


def _row(spec: ModelSpec) -> dict[str, Any]:
    with torch.device("meta"):
        network = build_network(spec)
    return {
        "model": spec.name,
        "scale": spec.scale,
        "params": network.parameter_count,
        "madds": multiply_adds(network),
        "widths": list(network.widths),
        "shipped": spec.widths is None and spec.scale == 4 and spec.name in shipped_names(),
        "summary": find_architecture(spec.name).summary,
    }
