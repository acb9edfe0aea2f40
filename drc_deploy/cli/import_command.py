"""``drc-deploy import``."""

from pathlib import Path

import click

from drc_deploy.cli.options import emit, scale_option
from drc_deploy.cli.training_options import output_options
from drc_deploy.locate import CHECKPOINT_SUFFIX


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="Architecture: drn_s or drn_l.")
@scale_option
@click.option("--duals", type=click.Path(path_type=Path), help="The authors' file of the dual networks.")
@output_options(CHECKPOINT_SUFFIX)
def command(
    weights: Path, model: str, scale: int, duals: Path | None, output: Path | None, workdir: Path, as_json: bool
) -> None:
    """Convert the authors' WEIGHTS (a .pt file, pruned or not) to a checkpoint."""
    from drc_deploy.checkpoint import save_checkpoint
    from drc_deploy.official import import_official

    checkpoint = import_official(weights, model, scale, duals)
    output = output or workdir / f"{weights.stem}.safetensors"
    save_checkpoint(output, checkpoint)
    widths = checkpoint.spec.widths or ()
    emit(
        {"checkpoint": str(output), "model": model, "scale": scale, "widths": list(widths), "duals": bool(duals)},
        as_json=as_json,
        text=f"Wrote {output}\nNext: drc-deploy export {output}",
    )
