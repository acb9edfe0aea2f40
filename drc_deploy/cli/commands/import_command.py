"""``drc-deploy import``."""

import json
from pathlib import Path
from typing import Any

import click

from drc_deploy.checkpoint_info import is_checkpoint
from drc_deploy.cli.options import announce_results, emit
from drc_deploy.cli.training_options import output_options
from drc_deploy.errors import UsageError
from drc_deploy.locate import CHECKPOINT_SUFFIX
from drc_deploy.printing import say


@click.command(name="import", short_help="Make a checkpoint of any network's weights.")
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("--model", help="For the authors' weights: drn_s, drn_l, swinir_light, swinir or dcls.")
@click.option("--scale", type=int, help="Upscaling factor of --model.  [default: 4]")
@click.option("--duals", type=click.Path(path_type=Path), help="The authors' file of the dual networks of --model.")
@click.option("--network", metavar="FILE.py:NAME", help="What builds your own network. Its code is run.")
@click.option("--kwargs", metavar="JSON", help="Keyword arguments of --network, such as '{\"channels\": 48}'.")
@output_options(CHECKPOINT_SUFFIX)
def command(
    weights: Path,
    model: str | None,
    scale: int | None,
    duals: Path | None,
    network: str | None,
    kwargs: str | None,
    output: Path | None,
    workdir: Path,
    as_json: bool,
) -> None:
    """Make a checkpoint of WEIGHTS: a .pth, .pt or .safetensors file of any super-resolution network.

    The architecture is found by the tensors, for SPAN, Compact, ESRGAN, SwinIR, DAT and all others that spandrel
    knows. For a network of your own give its class with --network, as FILE.py:NAME or package.module:NAME; it maps
    (N, C, H, W) to (N, C, scale*H, scale*W). With a checkpoint of such a network, pruned or not, --network says where
    its code is on this machine. The authors' weights of DRN and SwinIR, pruned or not, can be given with
    --model. DRN needs it; of SwinIR, only then can attention be cut.
    """
    from drc_deploy.checkpoint import save_checkpoint

    _check(model, scale, duals, network, kwargs)
    output = output or workdir / f"{weights.stem}{CHECKPOINT_SUFFIX}"
    if output.exists() and weights.exists() and output.samefile(weights):
        raise UsageError(f"the checkpoint would replace {weights}.", "Give another -o.")
    announce_results(output, workdir=workdir)
    if model:
        from drc_deploy.official import import_official

        checkpoint = import_official(weights, model, scale or 4, duals)
    else:
        from drc_deploy.foreign_import import import_foreign, with_code_at
        from drc_deploy.models.own_code import find_code

        settings = _parse(kwargs)
        if network:
            say(f"Running the code of {find_code(network).source}.", err=True)
        if network and is_checkpoint(weights):
            checkpoint = with_code_at(weights, network, settings)
        else:
            checkpoint = import_foreign(weights, network, settings)
    save_checkpoint(output, checkpoint)
    spec = checkpoint.spec
    values = f", over values of 0 to {spec.foreign.value_range:g}" if spec.foreign else ""
    result = {"checkpoint": str(output), "model": spec.name, "scale": spec.scale, "widths": list(spec.widths or ())}
    emit(
        result | {"duals": bool(checkpoint.dual_weights)},
        as_json=as_json,
        text=f"Wrote {output}: {spec.name} x{spec.scale}{values}\nNext: drc-deploy upscale IMAGE --engine {output}",
    )


def _check(model: str | None, scale: int | None, duals: Path | None, network: str | None, kwargs: str | None) -> None:
    if model and network:
        raise UsageError("--model and --network exclude each other.", "Give the one that the weights are of.")
    if not model and (duals or scale):
        raise UsageError("--duals and --scale are for the authors' weights.", "Give --model as well.")
    if kwargs and not network:
        raise UsageError("--kwargs is for a network of your own.", "Give --network as well.")


def _parse(kwargs: str | None) -> dict[str, Any]:
    try:
        value = json.loads(kwargs or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UsageError(f"--kwargs {kwargs!r} is no JSON object.", "Give one such as '{\"channels\": 48}'.")
    return value
