"""``drc-deploy compress``."""

from pathlib import Path
from typing import Any

import click

from drc_deploy.cli.options import emit, json_option, workdir_option
from drc_deploy.cli.training_options import Sampling, benchmark_option, output_option, sampling_options
from drc_deploy.locate import CHECKPOINT_SUFFIX


@click.command()
@click.option("--model", "checkpoint", required=True, help="A shipped name, a name in --workdir, or a checkpoint.")
@click.option("--ratio", type=float, default=0.3, show_default=True, help="Share of channels to remove.")
@click.option("--search-steps", type=int, default=200, show_default=True, help="(paper: 2500)")
@click.option("--round-to", type=int, default=4, show_default=True, help="Widths are multiples of this.")
@click.option("--prune-batches", type=int, default=4, show_default=True, help="Batches per pass (authors' code: 10).")
@click.option("--channels-per-step", type=int, default=4, show_default=True, help="Channels per pass (paper: 1).")
@click.option("--finetune-steps", type=int, default=1000, show_default=True, help="(paper: 1000000)")
@click.option("--learning-rate", type=float, default=1e-4, show_default=True, help="Of the fine-tuning.")
@benchmark_option
@sampling_options
@output_option(CHECKPOINT_SUFFIX)
@workdir_option
@json_option
def command(
    checkpoint: str,
    ratio: float,
    search_steps: int,
    round_to: int,
    prune_batches: int,
    channels_per_step: int,
    finetune_steps: int,
    learning_rate: float,
    benchmark_folders: tuple[Path, ...],
    sampling: Sampling,
    output: Path | None,
    workdir: Path,
    as_json: bool,
) -> None:
    """Search, prune and fine-tune: a smaller network of nearly the same quality.

    Each stage can be stopped with Ctrl-C; the same command goes on where it stopped.
    """
    from drc_deploy.checkpoint_info import read_checkpoint_info
    from drc_deploy.locate import find_trained_checkpoint
    from drc_deploy.train.compress import CompressOptions, compress, compressed_name
    from drc_deploy.train.evaluation import find_benchmarks
    from drc_deploy.train.options import TrainOptions
    from drc_deploy.train.prune import PruneOptions
    from drc_deploy.train.search import SearchOptions

    parent = find_trained_checkpoint(checkpoint, workdir)
    info = read_checkpoint_info(parent)
    options = CompressOptions(
        SearchOptions(ratio, search_steps, sampling.batch, sampling.patch, round_to, seed=sampling.seed),
        PruneOptions(prune_batches, sampling.batch, sampling.patch, channels_per_step, seed=sampling.seed),
        TrainOptions(
            finetune_steps,
            sampling.batch,
            sampling.patch,
            learning_rate=learning_rate,
            dual=info.dual_design,
            seed=sampling.seed,
        ),
    )
    output = output or workdir / f"{compressed_name(parent.stem, ratio)}.safetensors"
    benchmarks = find_benchmarks(benchmark_folders, info.scale)
    photographs = sampling.read_photographs(info.scale)
    manifest = compress(parent, photographs, options, output, benchmarks=benchmarks, restart=sampling.restart)
    emit({"checkpoint": str(output), **manifest}, as_json=as_json, text=_table(parent, output, manifest))


def _table(parent: Path, output: Path, manifest: dict[str, Any]) -> str:
    from drc_deploy.checkpoint_info import read_checkpoint_info

    before, after = read_checkpoint_info(parent), read_checkpoint_info(output)
    lines = [f"{'stage':<10}{'seconds':>10}  result"]
    lines += [f"{s['stage']:<10}{s['seconds']:>10.1f}  {s['result']}" for s in manifest["stages"]]
    lines += [
        f"{before.params:,} -> {after.params:,} parameters ({100 * (after.params / before.params - 1):+.0f} %)",
        f"Wrote {output}",
        f"Next: drc-deploy export {output} --trt fp16",
    ]
    return "\n".join(lines)
