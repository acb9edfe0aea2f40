"""``drc-deploy throughput``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from drc_deploy.cli.options import emit, json_option, scale_option
from drc_deploy.cli.training_options import FOLDER, option
from drc_deploy.train.loop.run_options import TrainingPrecision

if TYPE_CHECKING:
    from drc_deploy.train.experiments.throughput import ThroughputOptions, TrainingThroughput


@click.command()
@click.option("--model", required=True, help="Architecture, as `drc-deploy models` lists them.")
@scale_option
@click.option(
    "--data", required=True, type=FOLDER, help="Folder of photographs, or a store that `drc-deploy data prepare` made."
)
@option("--batch", type=click.IntRange(1), default=16, help="Patches per step.")
@option("--patch", type=click.IntRange(1), default=24, help="Side of a patch in LR pixels.")
@option(
    "--precision", type=click.Choice(get_args(TrainingPrecision)), default="fp32", help="Precision of the convolutions."
)
@option("--seconds", type=click.IntRange(1, 3600), default=60, help="Time that is measured; warming up comes on top.")
@json_option
def command(model: str, scale: int, data: Path, as_json: bool, **how: Any) -> None:
    """Measure how fast training runs, compared with a DataLoader of PNG files and with the machine's peak.

    The two loaders take turns in one process. The PNG files are written to a temporary folder.
    """
    import dataclasses

    from drc_deploy.models.network import ModelSpec
    from drc_deploy.models.registry import check_scale
    from drc_deploy.train.data.folders import open_photographs
    from drc_deploy.train.data.png_loader import default_workers
    from drc_deploy.train.experiments.throughput import ThroughputOptions, measure_throughput

    check_scale(model, scale)
    photographs = open_photographs(data).usable(scale, how["patch"])
    options = ThroughputOptions(ModelSpec(model, scale), workers=default_workers(), **how)
    result = measure_throughput(photographs, options)
    report = dataclasses.asdict(options) | dataclasses.asdict(result)
    emit(report, as_json=as_json, text=_text(result, options))


def _text(result: "TrainingThroughput", options: "ThroughputOptions") -> str:
    rows = (
        (f"this sampler, {options.precision}", result.ours),
        (f"DataLoader of PNG files, {options.workers} workers, fp32", result.dataloader),
    )
    lines = [f"Training on {result.device}, {result.threads} CPU threads"]
    for name, rate in rows:
        lines.append(
            f"  {name}: {rate.samples_per_s:.1f} samples/s ({rate.lowest:.1f} to {rate.highest:.1f}), "
            f"{rate.step_ms:.1f} ms a step, {rate.data_share:.1%} of it waiting for data"
        )
    lines.append(f"  ratio {result.ratio:.2f} ({result.lowest_ratio:.2f} to {result.highest_ratio:.2f})")
    lines.append(
        f"  {result.step_flops / 1e9:.1f} GFLOP a step: {result.share_of_peak:.0%} of the measured peak of "
        f"{result.peak_flops_per_s / 1e9:.0f} GFLOP/s"
    )
    return "\n".join(lines)
