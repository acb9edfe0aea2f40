"""``drc-deploy search``."""

import dataclasses
from pathlib import Path

import click

from drc_deploy.cli.options import emit, json_option, workdir_option
from drc_deploy.cli.training_options import Sampling, output_option, sampling_options
from drc_deploy.widths import WIDTHS_SUFFIX


@click.command()
@click.argument("checkpoint")
@click.option("--ratio", type=float, default=0.3, show_default=True, help="Share of channels to remove.")
@click.option("--steps", type=int, default=200, show_default=True, help="Search steps (paper: 2500).")
@click.option("--round-to", type=int, default=4, show_default=True, help="Widths are multiples of this.")
@sampling_options
@output_option(WIDTHS_SUFFIX)
@workdir_option
@json_option
def command(
    checkpoint: str,
    ratio: float,
    steps: int,
    round_to: int,
    sampling: Sampling,
    output: Path | None,
    workdir: Path,
    as_json: bool,
) -> None:
    """Search how many channels each layer of CHECKPOINT needs."""
    from drc_deploy.checkpoint_info import read_checkpoint_info
    from drc_deploy.locate import find_checkpoint
    from drc_deploy.train.compress import compressed_name, search_file
    from drc_deploy.train.search import SearchOptions

    options = SearchOptions(ratio, steps, sampling.batch, sampling.patch, round_to, seed=sampling.seed)
    parent = find_checkpoint(checkpoint, workdir)
    output = output or workdir / f"{compressed_name(parent.stem, ratio)}{WIDTHS_SUFFIX}"
    photographs = sampling.read_photographs(read_checkpoint_info(parent).scale)
    found = search_file(parent, photographs, options, output, restart=sampling.restart)
    emit(
        {"widths_file": str(output), **dataclasses.asdict(found)},
        as_json=as_json,
        text=f"Widths: {' '.join(map(str, found.widths))}\nWrote {output}\n"
        f"Next: drc-deploy prune {checkpoint} --widths {output}",
    )
