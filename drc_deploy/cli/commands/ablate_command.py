"""``drc-deploy ablate``."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import click
from click.core import ParameterSource

from drc_deploy.cli.ablations import DEFAULT_SCALE, Asked, Prunings, Trainings, compare_prunings, compare_trainings
from drc_deploy.cli.options import json_option, workdir_option
from drc_deploy.cli.pruning_options import (
    Bound,
    ManyValues,
    bound_options,
    dual_weight_option,
    gamma_option,
    target_images_option,
)
from drc_deploy.cli.training_options import (
    Sampling,
    benchmark_option,
    ema_option,
    gathered,
    option,
    sampling_options,
    schedule_options,
    steps_option,
)
from drc_deploy.errors import UsageError
from drc_deploy.train.experiments.paper_tables import PAPER_TABLES, PaperTable, find_table
from drc_deploy.train.loop.run_options import TrainingPrecision

ALL_RATIOS = (0.3, 0.5, 0.7)
_WIDEST = max(len(table.name) for table in PAPER_TABLES)
# "\b" keeps click from filling the lines that follow.
HELP = f"""Compare DRC with other pruning methods, or ways to train, on your network and data.

Without NAME, all pruning methods are compared. All get the same bound and as many updates of fine-tuning. After a stop,
the same command continues. NAME is one table or figure of the paper:

\b
{chr(10).join(f"{table.name:{_WIDEST}}  {table.summary}" for table in PAPER_TABLES)}

In tables of trainings --model may be the name of a model, for new networks, or a checkpoint.
"""

_ASKED = (
    click.option("--model", "checkpoint", required=True, help="A shipped name, a name in --workdir, or a checkpoint."),
    option("--seeds", type=click.IntRange(min=1), default=3, help="Runs of every row."),
    click.option("--method", "methods", multiple=True, help="Only these rows; one or several.  [default: all]"),
    click.option(
        "--values", type=float, multiple=True, help="Weights that lambda and gamma try.  [default: around the paper's]"
    ),
    option("--learning-rate", default=1e-4, help="Learning rate of fine-tuning, or of trainings."),
    option(
        "--precision",
        type=click.Choice(get_args(TrainingPrecision)),
        default="fp32",
        help="Precision of fine-tuning, or of trainings.",
    ),
    dual_weight_option,
    benchmark_option,
    click.option(
        "--at",
        type=click.IntRange(min=0),
        multiple=True,
        help="Updates after which PSNR is measured too; one or several. 0: a pruned network before fine-tuning.",
    ),
    click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder of the results."),
    click.option(
        "--ray",
        "address",
        is_flag=False,
        flag_value="local",
        metavar="[ADDRESS]",
        help="Compute rows on the machines of a Ray cluster, such as --ray 10.0.0.1:6379; without an address in "
        "several processes here. Each takes four cores or a GPU.",
    ),
    workdir_option,
    json_option,
)
_PRUNINGS = (
    click.option(
        "--ratio",
        "ratios",
        type=float,
        multiple=True,
        help="Share to remove; one or several.  [default: 0.3, 0.5 and 0.7, or those of the table]",
    ),
    option("--search-steps", default=200, help="Steps of the search (paper: 2500)."),
    option("--prune-batches", default=4, help="Batches per pass (authors' code: 10)."),
    option("--channels-per-step", default=4, help="Channels per pass (paper: 1)."),
    option("--finetune-steps", default=300, help="Steps of fine-tuning (paper: 1000000)."),
    gamma_option,
    target_images_option,
)
_TRAININGS = (
    steps_option,
    *schedule_options,
    ema_option,
    click.option("--fit-duals", is_flag=True, help="Fit all duals on pairs of HR and LR images before a training."),
    click.option("--scale", type=int, help=f"Upscaling factor of a new network.  [default: {DEFAULT_SCALE}]"),
)


@click.command(cls=ManyValues, help=HELP)
@click.argument("name", required=False, type=click.Choice([table.name for table in PAPER_TABLES]), metavar="[NAME]")
@gathered("asked", Asked, _ASKED)
@gathered("prunings", Prunings, _PRUNINGS)
@bound_options("madds")
@gathered("trainings", Trainings, _TRAININGS)
@sampling_options
@click.pass_context
def command(
    context: click.Context,
    name: str | None,
    asked: Asked,
    prunings: Prunings,
    bound: Bound,
    trainings: Trainings,
    sampling: Sampling,
) -> None:
    """Compare what NAME says."""
    table = find_table(name) if name else None
    _check_typed(context, table)
    if table and table.trains:
        compare_trainings(table, asked, trainings, sampling)
        return
    if not prunings.ratios:
        prunings = replace(prunings, ratios=table.ratios if table else ALL_RATIOS)
    compare_prunings(table, asked, prunings, bound, sampling)


def _check_typed(context: click.Context, table: PaperTable | None) -> None:
    """Refuse options that a table has no use for.

    Raises:
        UsageError: one was typed.
    """
    unused = _unused(table)
    for parameter in context.command.params:
        if parameter.name in unused and _is_typed(context, str(parameter.name)):
            takers = [other.name for other in PAPER_TABLES if parameter.name not in _unused(other)]
            takers += [] if parameter.name in _unused(None) else ["`ablate` without a name"]
            called = f"ablate {table.name}" if table else "ablate"
            raise UsageError(
                f"{parameter.opts[0]} is no option of `drc-deploy {called}`.", f"It belongs to {', '.join(takers)}."
            )


def _unused(table: PaperTable | None) -> set[str]:
    """Return the names of the options that do nothing in a table."""
    if table is None:
        return {*_names(Trainings), "values"}
    unused = {*_names(Prunings), *_names(Bound)} if table.trains else set(_names(Trainings))
    if table.values:
        unused.add("dual_weight" if table.trains else "gamma")
    else:
        unused.add("values")
    if len(table.rows) < (2 if table.values else 3):  # no row can be left out
        unused.add("methods")
    return unused


def _names(kind: type) -> Iterator[str]:
    return (field.name for field in fields(kind))


def _is_typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) != ParameterSource.DEFAULT
