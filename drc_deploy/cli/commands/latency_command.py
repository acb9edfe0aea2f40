"""``drc-deploy latency``."""

from pathlib import Path

import click

from drc_deploy.cli.options import emit, scale_option, size_option
from drc_deploy.cli.training_options import output_options
from drc_deploy.latency_table import LATENCY_SUFFIX


@click.command()
@click.argument("model")
@scale_option
@size_option("180x320")
@output_options(LATENCY_SUFFIX)
def command(model: str, scale: int, size: tuple[int, int], output: Path | None, workdir: Path, as_json: bool) -> None:
    """Time the layers of MODEL at several widths, on this machine and in torch.

    MODEL is a name of `drc-deploy models`, and not a checkpoint: the table serves all checkpoints of the model.
    A search with --target latency uses the result. The search may run on another machine.
    """
    from drc_deploy import records
    from drc_deploy.files import check_writable
    from drc_deploy.latency_table import write_latency_table
    from drc_deploy.models.network import ModelSpec
    from drc_deploy.models.registry import build_network
    from drc_deploy.train.search.layer_timing import measure_latency

    output = output or workdir / f"{model}{'' if scale == 4 else f'_x{scale}'}{LATENCY_SUFFIX}"
    spec = ModelSpec(model, scale)
    build_network(spec)  # an unknown model is refused before a folder is made
    check_writable(output.parent)
    table = measure_latency(spec, *size)
    write_latency_table(output, table)
    prunable = sum(points[-1][1] for points in table.points)
    lines = [
        f"{table.device}, {table.library}, LR {table.height}x{table.width}",
        f"{table.fixed_ms + prunable:.2f} ms; {prunable:.2f} ms of it in {len(table.layers)} prunable layers",
        f"Wrote {output}",
        f"Next: drc-deploy search {model} --target latency --latency-table {output}",
    ]
    emit({"latency_table": str(output), **records.to_dict(table)}, as_json=as_json, text="\n".join(lines))
