"""``drc-deploy eval``."""

from pathlib import Path
from typing import Any

import click

from drc_deploy.cli import options


@click.command(name="eval", short_help="Measure PSNR and SSIM on pairs of HR and LR images.")
@click.argument("model", metavar="MODEL_OR_ENGINE")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder that holds HR/ and the folder of LR images.",
)
@click.option("--lr-dir", "lr_folder", help="Folder of LR images inside --data.  [default: LRx and the scale]")
@click.option("--scale", type=click.IntRange(1, 16), help="Upscaling factor.  [default: the network's; 4 for bicubic]")
@options.workdir_option
@options.threads_option
@options.precision_option
@click.option("--tile", type=click.IntRange(1), help="Largest side of a tile in LR pixels.  [default: the whole image]")
@click.option("--overlap", type=click.IntRange(0), help="Context around each tile in LR pixels.")
@options.json_option
def command(as_json: bool, **settings: Any) -> None:
    """Measure PSNR and SSIM on Y as the literature does: border of SCALE pixels cut, results rounded to 8 bits.

    PSNR on RGB is shown as well.

    MODEL_OR_ENGINE is `bicubic`, a shipped name such as drn_xs, a checkpoint, an .onnx or a .plan file. A file of
    fixed tile size works in tiles; any other sees every image whole.
    """
    from drc_deploy import records
    from drc_deploy.cli.evaluation import EvaluationOptions, evaluate, evaluation_table

    evaluation = evaluate(EvaluationOptions(**settings))
    options.emit(records.to_dict(evaluation), as_json=as_json, text=evaluation_table(evaluation))
