"""``drc-deploy compress``."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import click
from click.core import ParameterSource

from drc_deploy.cli import training_options as training
from drc_deploy.cli.options import announce_results, emit
from drc_deploy.cli.pruning_options import (
    Bound,
    ManyValues,
    TargetChoice,
    asked_and_reached,
    bound_options,
    chosen_targets,
    dual_weight_option,
    gamma_option,
    importance_option,
    order_option,
    refit_option,
    target_images_option,
    timed_here,
    times_text,
)
from drc_deploy.errors import UsageError
from drc_deploy.locate import CHECKPOINT_SUFFIX
from drc_deploy.train.loop.run_options import TrainingPrecision
from drc_deploy.train.pruning.prune_options import PruneMethod
from drc_deploy.train.search.search_options import Importance, SearchMethod
from drc_deploy.widths import read_widths_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drc_deploy.checkpoint import Parent
    from drc_deploy.latency_table import LatencyTable
    from drc_deploy.train.compress import CompressOptions

BudgetName = Literal["fast", "30min", "paper"]


@dataclasses.dataclass(frozen=True, slots=True)
class StepBudget:
    """How much work each stage of ``compress`` does."""

    search_steps: int
    prune_batches: int
    """Batches per pass over the pruning data."""
    channels_per_step: int
    """Channels taken up after each pass."""
    finetune_steps: int | None
    patch: int
    """Side of a patch in LR pixels."""
    precision: TrainingPrecision = "fp32"
    """Of the fine-tuning."""
    finetune_batch: int | None = None
    """Patches of an update of fine-tuning; None: as many as elsewhere."""
    order: Literal[1, 2] = 1
    importance: Importance = "energy"
    refit: bool | None = None
    """As in ``PruneOptions``."""
    finetune_minutes: float | None = None
    """In place of ``finetune_steps``."""


BUDGETS: dict[BudgetName, StepBudget] = {
    # Minutes on a CPU for drn_xs: to see the chain work.
    "fast": StepBudget(200, 4, 4, 1000, 24),
    # drn_s on one H100 or H200. By what its parts took there (docs/gpu_results.md): 0.5 s a step of search, and three
    # minutes of pruning. Never run as a whole.
    "30min": StepBudget(400, 2, 4, None, 48, "bf16", finetune_minutes=20),
    # The authors' search and pruning, and as many updates of fine-tuning, as large, as the paper's training has.
    "paper": StepBudget(2500, 10, 1, 1_000_000, 48, "fp32", 32, 2, "l1", refit=False),
}


@click.command(cls=ManyValues)
@click.option("--model", "checkpoint", required=True, help="A shipped name, a name in --workdir, or a checkpoint.")
@training.option(
    "--ratio",
    "ratios",
    type=float,
    multiple=True,
    default=(0.3,),
    help="Share to remove of the --target; several (0.3 0.5 0.7) make a family of networks.",
)
@training.option(
    "--budget",
    type=click.Choice(get_args(BudgetName)),
    default="fast",
    help="Steps of each stage: minutes on a CPU, half an hour on a large GPU, or the paper's.",
)
@click.option("--search-steps", type=int, help="Steps of the search, instead of the budget's.")
@click.option("--prune-batches", type=int, help="Batches per pass, instead of the budget's.")
@click.option("--channels-per-step", type=int, help="Channels per pass, instead of the budget's (paper: 1).")
@click.option("--finetune-steps", type=int, help="Steps of fine-tuning, instead of the budget's.")
@click.option("--finetune-minutes", type=float, help="Minutes spent in updates of fine-tuning, instead of its steps.")
@training.option("--learning-rate", default=1e-4, help="Learning rate of fine-tuning.")
@click.option(
    "--precision",
    type=click.Choice(get_args(TrainingPrecision)),
    help="Precision of fine-tuning, instead of the budget's.",
)
@training.option(
    "--search-method", type=click.Choice(get_args(SearchMethod)), default="drc", help="How widths are chosen."
)
@order_option(None)
@importance_option(None)
@training.option(
    "--prune-method", type=click.Choice(get_args(PruneMethod)), default="drc", help="How channels are chosen."
)
@gamma_option
@refit_option
@dual_weight_option
@training.option("--ema", default=0.0, help="Decay of averaged weights; 0: none.")
@click.option("--half", is_flag=True, help="Round the result to float16: a file of half the size.")
@click.option("--teacher", help="A larger checkpoint; fine-tuning follows its features.")
@target_images_option
@bound_options()
@training.benchmark_option
@training.sampling_options
@training.output_options(CHECKPOINT_SUFFIX)
def command(
    checkpoint: str,
    ratios: tuple[float, ...],
    teacher: str | None,
    target_images: TargetChoice,
    bound: Bound,
    sampling: training.Sampling,
    benchmark_folders: tuple[Path, ...],
    output: Path | None,
    workdir: Path,
    as_json: bool,
    **how: Any,
) -> None:
    """Search, prune and fine-tune: a smaller network of nearly the same quality.

    It can be stopped or killed at any point; the same command continues where it stopped.
    """
    from drc_deploy.checkpoint import read_prunable, read_trainable
    from drc_deploy.export.trt.gpu import find_gpu
    from drc_deploy.files import version_of
    from drc_deploy.locate import find_checkpoint, find_trained_checkpoint
    from drc_deploy.train.compress import (
        CompressInputs,
        compress,
        compressed_name,
        has_begun,
        stage_paths,
    )
    from drc_deploy.train.loop.benchmark_psnr import find_benchmarks

    if output and len(ratios) > 1:
        raise UsageError("-o names one file, but several ratios make several.", "Give --workdir instead.")
    budget = _budget(how)
    if not _is_typed("patch"):
        sampling = dataclasses.replace(sampling, patch=budget.patch)
    asked = {ratio: _options(ratio, budget, bound, sampling, **how) for ratio in ratios}
    path = find_trained_checkpoint(checkpoint, workdir)
    jobs = {
        output or workdir / f"{compressed_name(path.stem, ratio)}.safetensors": options
        for ratio, options in asked.items()
    }
    if len(jobs) < len(asked):
        raise UsageError("two ratios are so close that their networks have one name.", "Give one of them.")
    parent = read_prunable(path, sampling.patch)
    info, latency = parent.info, bound.read_latency(parent.info)
    leader = read_trainable(find_checkpoint(teacher, workdir), sampling.patch) if teacher else None
    _check_jobs(jobs, parent, leader, latency)
    benchmarks = find_benchmarks(benchmark_folders, info.scale)
    photographs = sampling.read_photographs(info.scale, parent.checkpoint.provenance)
    targets = chosen_targets(target_images, parent, photographs, sampling.patch)
    jobs = {result: options.of_network(targets, info.dual_design) for result, options in jobs.items()}
    inputs = CompressInputs(parent, photographs, benchmarks, latency, leader)
    for result, options in jobs.items():
        goes_on = not sampling.restart and has_begun(inputs, options, result)
        announce_results(result, workdir=workdir, goes_on=goes_on)
    before = {result: version_of(result) for result in jobs}
    networks, texts = [], []
    for result, manifest in zip(jobs, compress(inputs, jobs, restart=sampling.restart), strict=True):
        found = read_widths_file(stage_paths(result).widths)
        lines = [f"{result.stem}:", _table(manifest), asked_and_reached(found)]
        if inputs.latency:
            manifest["timed_ms"] = timed_here(found, inputs.latency)
            lines.append(times_text(manifest["timed_ms"], inputs.latency))
        networks.append({"checkpoint": str(result), **manifest})
        texts += [*lines, f"{'Wrote' if version_of(result) != before[result] else 'Kept'} {result}"]
    texts.append(f"Next: drc-deploy export {next(iter(jobs))}{' --trt fp16' if find_gpu() else ''}")
    emit({"networks": networks}, as_json=as_json, text="\n".join(texts))


def _check_jobs(
    jobs: "Mapping[Path, CompressOptions]", parent: "Parent", leader: "Parent | None", latency: "LatencyTable | None"
) -> None:
    """Refuse what cannot be done with these checkpoints, before photographs are read.

    Raises:
        UsageError: it is asked for.
    """
    from drc_deploy.train.compress import check_teacher, stage_paths
    from drc_deploy.train.search.search_file import check_bound

    for result, options in jobs.items():
        for weights in (parent, leader) if leader else (parent,):
            training.check_not_cleared(weights.path, result)
            training.check_not_replaced(weights.path, stage_paths(result).pruned)
        check_bound(parent.checkpoint, options.search, latency)
    check_teacher(parent, leader)


def _budget(how: dict[str, Any]) -> StepBudget:
    """Take the named budget out of the options, with the typed values in place of its own."""
    named = BUDGETS[how.pop("budget")]
    if how["prune_method"] != "drc":
        named = dataclasses.replace(named, refit=None)
    if _is_typed("batch"):
        named = dataclasses.replace(named, finetune_batch=None)
    names = [field.name for field in dataclasses.fields(StepBudget) if field.name in how]
    typed = {name: value for name in names if (value := how.pop(name)) is not None}
    lengths = typed.keys() & {"finetune_steps", "finetune_minutes"}
    if len(lengths) > 1:
        raise UsageError("fine-tuning lasts either steps or minutes.", "Leave out one of the two.")
    if lengths:
        named = dataclasses.replace(named, finetune_steps=None, finetune_minutes=None)
    return dataclasses.replace(named, **typed)


def _is_typed(parameter: str) -> bool:
    return click.get_current_context().get_parameter_source(parameter) != ParameterSource.DEFAULT


def _options(
    ratio: float,
    budget: StepBudget,
    bound: Bound,
    sampling: training.Sampling,
    *,
    search_method: SearchMethod,
    prune_method: PruneMethod,
    gamma: float,
    dual_weight: float,
    **finetuning: Any,
) -> "CompressOptions":
    from drc_deploy.train.compress import CompressOptions
    from drc_deploy.train.loop.run_options import TrainOptions
    from drc_deploy.train.pruning.prune_options import PruneOptions
    from drc_deploy.train.search.search_options import SearchOptions

    common: dict[str, Any] = {**sampling.patches, "dual_weight": dual_weight}
    finetuning |= common | {"batch": budget.finetune_batch or sampling.batch}
    finetuning |= {} if dual_weight else {"dual": "none"}
    return CompressOptions(
        SearchOptions(
            ratio,
            budget.search_steps,
            method=search_method,
            order=budget.order,
            importance=budget.importance,
            target=bound.target,
            round_to=bound.round_to,
            cut=bound.cut,
            **common,
        ),
        PruneOptions(
            prune_method,
            batches=budget.prune_batches,
            channels_per_step=budget.channels_per_step,
            gamma=gamma,
            refit=budget.refit,
            **common,
        ),
        TrainOptions(budget.finetune_steps, minutes=budget.finetune_minutes, precision=budget.precision, **finetuning),
    )


def _table(manifest: dict[str, Any]) -> str:
    """Return a table of the stages: time, size and quality."""
    before = manifest["before"]
    sets = list(before["psnr_y"])
    lines = [
        f"{'stage':<10}{'seconds':>9}{'parameters':>13}{'mult-adds':>11}" + "".join(f"{name:>15}" for name in sets),
        _row("before", None, before, sets),
        *(_row(s["stage"], s["seconds"], s.get("after"), sets) for s in manifest["stages"]),
    ]
    return "\n".join(lines)


def _row(name: str, seconds: float | None, size: dict[str, Any] | None, sets: list[str]) -> str:
    row = f"{name:<10}{'' if seconds is None else f'{seconds:.1f}':>9}"
    if size is None:
        return row
    quality = "".join(f"{_quality(size, name):>15}" for name in sets)
    return f"{row}{size['params']:>13,}{size['multiply_adds'] / 1e9:>10.2f}G{quality}"


def _quality(size: dict[str, Any], name: str) -> str:
    """Write PSNR and SSIM."""
    psnr = size["psnr_y"][name]
    return "inf" if psnr is None else f"{psnr:.2f}/{size['ssim_y'][name]:.4f}"
