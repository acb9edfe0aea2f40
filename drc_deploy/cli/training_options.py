"""Options that the commands of the training stage share."""

import dataclasses
import difflib
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource

from drc_deploy.cli.options import announce_results, emit, json_option, workdir_option
from drc_deploy.errors import UsageError
from drc_deploy.locate import SAMPLES
from drc_deploy.printing import say
from drc_deploy.train.degradation.settings import NAMES
from drc_deploy.train.loop.run_options import DualVariant, Schedule, TrainingPrecision, TrainOptions

if TYPE_CHECKING:
    from drc_deploy.checkpoint import Parent
    from drc_deploy.models.network import ModelSpec
    from drc_deploy.train.data.photographs import Photographs
    from drc_deploy.train.loop.benchmark_psnr import Benchmark
    from drc_deploy.train.loop.training import Start

Command = Callable[..., None]
option = functools.partial(click.option, show_default=True)
"""A click option whose default is shown in the help."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """Data and batches of a stage of training, and whether it continues unfinished work."""

    data: Path | None
    """Folder of photographs or a store of them; None means those that ship with the package."""
    batch: int
    patch: int
    """Side of a patch in LR pixels."""
    degradation: str | None
    """How LR images are made: a name, or a TOML file; None: as the network was trained, or by bicubic reduction."""
    seed: int
    restart: bool

    @property
    def patches(self) -> dict[str, Any]:
        """Fields that the options of every stage have."""
        return {"batch": self.batch, "patch": self.patch, "seed": self.seed}

    def take_train_options(self, how: dict[str, Any]) -> TrainOptions:
        """Take the values of ``loop_options`` that decide the weights out of ``how``; return them, checked."""
        names = [field.name for field in dataclasses.fields(TrainOptions) if field.name in how]
        return TrainOptions(**self.patches, **{name: how.pop(name) for name in names})

    def read_photographs(self, scale: int, trained: Mapping[str, Any] | None = None) -> "Photographs":
        """Load the photographs; print on standard error what was chosen for the user, and which were left out.

        ``trained`` is the provenance of the checkpoint to start from.
        """
        from drc_deploy.train.data.folders import open_photographs
        from drc_deploy.train.degradation.settings import degradation_of, find_degradation
        from drc_deploy.train.loop import distributed

        if self.data is None and distributed.is_main():
            say("No --data: using the few photographs that ship with drc-deploy. Good results need more.", err=True)
        if self.degradation is None:
            degradation = degradation_of(trained or {})
        else:
            degradation = find_degradation(self.degradation, scale)  # checked before photographs are read
        photographs = open_photographs(self.data or SAMPLES).degraded(degradation).usable(scale, self.patch)
        if degradation and self.degradation is None and distributed.is_main():
            say(f"LR images are made by {photographs.lr_made_by}, as the network was trained.", err=True)
        for reason in photographs.skipped if distributed.is_main() else ():
            say(f"Skipped: {reason}", err=True)
        return photographs


def with_duals_of(start: "ModelSpec | Parent", options: TrainOptions) -> TrainOptions:
    """Return the options with the kind of duals that the network has, unless --dual or a file asks for one.

    The context of click gets that kind too: the run's ``config.toml`` is written from there.
    """
    from drc_deploy.train.loop.training import network_duals

    context = click.get_current_context()
    if context.get_parameter_source("dual") != ParameterSource.DEFAULT:
        return options
    context.params["dual"] = network_duals(start)
    return dataclasses.replace(options, dual=context.params["dual"])


def check_not_replaced(weights: Path, output: Path) -> None:
    """Refuse to write a result over the weights that it is made from: the same command would then start from it.

    Raises:
        UsageError: they are one file.
    """
    if weights.resolve() == output.resolve():
        raise UsageError(f"{output} would replace the checkpoint that it is made from.", "Give another -o.")


def check_not_cleared(weights: Path, output: Path) -> None:
    """Refuse to start from weights that the run would replace, or that lie in its folder, which a new run clears.

    Raises:
        UsageError: they do.
    """
    from drc_deploy.train.loop.run_folder import run_path

    check_not_replaced(weights, output)
    run = run_path(output)
    if weights.resolve().is_relative_to(run.resolve()):
        raise UsageError(f"{weights} lies in {run}, which a new run clears.", "Give another -o, or move the file.")


def train_and_report(
    start: "Start",
    options: TrainOptions,
    sampling: Sampling,
    benchmarks: Sequence["Benchmark"],
    output: Path,
    *,
    workdir: Path,
    config: str,
    as_json: bool,
    then: str,
    validation: Path | None,
    **supervised: Any,
) -> None:
    """Train, then print what the run made and what to type next; only the first of several processes prints.

    ``validation`` and ``supervised`` are the values of ``loop_options`` that ``take_train_options`` leaves.
    """
    from drc_deploy.models.blind import BlindNetwork
    from drc_deploy.train.loop.distributed import is_main
    from drc_deploy.train.loop.loop import Supervision
    from drc_deploy.train.loop.run_folder import run_path, state_of
    from drc_deploy.train.loop.training import train
    from drc_deploy.train.loop.validation import Validator

    if is_main():
        goes_on = state_of(output).exists() and not sampling.restart
        announce_results(output, workdir=workdir, goes_on=goes_on)
    scale = start.network.scale
    photographs, validator = sampling.read_photographs(scale, start.provenance.get("before")), None
    if validation and is_main():
        validator = Validator.find(validation, scale, benchmarks=benchmarks, photographs=photographs)
    if isinstance(start.network, BlindNetwork) and is_main():
        _note_on_blurs(start.network.spec.name, sampling.patch, blurred=photographs.degradation is not None)
    supervision = Supervision(validator=validator, restart=sampling.restart, config=config, **supervised)
    result = train(start, photographs, options, output, benchmarks=benchmarks, supervision=supervision)
    if is_main():
        run = run_path(output)
        emit(
            {"checkpoint": str(output), "run": str(run), **result.provenance},
            as_json=as_json,
            text=f"Wrote {output}; the run's log and checkpoints are in {run}\nNext: {then}",
        )


def _note_on_blurs(name: str, patch: int, *, blurred: bool) -> None:
    """Print what keeps a blind network from learning to estimate blurs."""
    if not blurred:
        say(f"{name} learns to estimate blurs, and these LR images have none: give --degradation dcls.", err=True)
    if patch < LEAST_BLIND_PATCH:
        say(f"{name} sees little of a blur in patches of {patch} pixels: give --patch 48 or more.", err=True)


LEAST_BLIND_PATCH = 48
LONGEST_NAME = 200
"""Bytes of a result's file name: most file systems allow 255, and temporary files and folders are named after it."""
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


class NameOrFile(click.Path):
    """A value from a list of names, or else a file that exists."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(exists=True, dir_okay=False)
        self.names = names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value as it is typed.

        Raises:
            click.BadParameter: it is no such name, and no file.
        """
        if value in self.names:
            return value
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            close = difflib.get_close_matches(str(value), self.names, n=1)
            meant = f" Did you mean {close[0]}?" if close else ""
            self.fail(f"{error.message} Known names are {', '.join(self.names)}.{meant}", param, ctx)


degradation_option = option(
    "--degradation",
    type=NameOrFile(NAMES),
    metavar="NAME|FILE",
    show_default="as the network was trained, or bicubic",
    help=f"How LR images are made of photographs: {', '.join(NAMES)}, or a TOML file.",
)

SAMPLING_OPTIONS = (
    click.option(
        "--data",
        type=FOLDER,
        help="Photographs to train on: a folder, or a store of `data prepare`.  [default: the few that ship]",
    ),
    option("--batch", default=16, help="Patches per step, over all processes."),
    option("--patch", default=24, help="Side of a patch in LR pixels (paper: 48)."),
    degradation_option,
    option("--seed", default=1, help="Seed of all random choices."),
    click.option("--restart", is_flag=True, help="Begin anew instead of continuing unfinished work."),
)

DEFAULT_STEPS = 1000
steps_option = option("--steps", default=DEFAULT_STEPS, help="Updates (the paper's recipe: 1000000).")
schedule_options = (
    option("--final-learning-rate", default=1e-7, help="Learning rate at the end of the cosine schedule."),
    option("--schedule", type=click.Choice(get_args(Schedule)), default="cosine", help="Curve of the learning rate."),
    click.option("--warm-up", type=int, help="Steps of linear warm-up.  [default: a tenth of the run, at most 100]"),
)
ema_option = option("--ema", default=0.0, help="Decay of averaged weights, such as 0.999; 0: none.")


def _steps_unless_minutes(ctx: click.Context, _parameter: click.Parameter, value: int | None) -> int | None:
    return DEFAULT_STEPS if value is None and ctx.params.get("minutes") is None else value


LOOP_OPTIONS = (
    click.option(
        "--steps",
        type=int,
        callback=_steps_unless_minutes,
        help=f"Updates (the paper's recipe: 1000000).  [default: {DEFAULT_STEPS}, or as many as --minutes allow]",
    ),
    click.option(
        "--minutes",
        type=float,
        is_eager=True,  # so that it is known when --steps looks for it
        help="Time spent in updates, over all sessions, in place of --steps; the learning rate follows it. Reading, "
        "validation, saving and the final measuring are on top.",
    ),
    option("--learning-rate", default=1e-4, help="Learning rate at the start of the schedule."),
    *schedule_options,
    click.option(
        "--dual",
        type=click.Choice(get_args(DualVariant)),
        default="progressive",
        show_default="what the checkpoint or the model has",
        help="Dual networks to train with: the paper's, or a variant of its comparison.",
    ),
    option("--dual-weight", default=0.1, help="Lambda, the weight of the duals."),
    option(
        "--precision",
        type=click.Choice(get_args(TrainingPrecision)),
        default="fp32",
        help="Precision of the convolutions; weights, images and losses stay float32.",
    ),
    option("--accumulate", default=1, help="Parts that a batch is split into, to save memory."),
    ema_option,
    click.option(
        "--branches", is_flag=True, help="Train 3x3 convolutions as sums of branches, which the result holds merged."
    ),
    click.option(
        "--half",
        is_flag=True,
        help="Round the weights that are validated and kept to float16: half the file size, the same updates.",
    ),
    click.option("--compile", is_flag=True, help="Compile the step with torch.compile."),
    click.option(
        "--augment-scale",
        type=float,
        help="Reduce the photographs of each step to 1, 0.9, 0.8, ... of their sides, at least this (0.5 to 0.9), "
        "before patches are cut.  [default: never]",
    ),
    option(
        "--prefer-detail",
        default=1,
        help="Draw so many places for each patch, and cut it where the photograph has the most detail.",
    ),
    click.option(
        "--val",
        "validation",
        type=FOLDER,
        help="Photographs to choose the kept weights by: not trained on, and not a benchmark set.",
    ),
    click.option(
        "--val-every",
        "check_every",
        type=click.IntRange(min=1),
        help="Steps between validations and checkpoints.  [default: a twentieth of the run, at least 20]",
    ),
    option(
        "--save-every",
        "save_every_s",
        type=click.FloatRange(min=0),
        default=60.0,
        help="Seconds between saved states; a killed run continues from the last.",
    ),
    option("--keep", type=click.IntRange(min=0), default=3, help="Number of latest checkpoints to keep."),
    click.option("--force", is_flag=True, help="Continue unfinished work although its options were others."),
)

benchmark_option = click.option(
    "--eval",
    "benchmark_folders",
    type=FOLDER,
    multiple=True,
    help="Benchmark set (HR/ and LRx4/) to measure; its PSNR is stored in the checkpoint. Repeat it for more sets.",
)


def output_options(suffix: str) -> Callable[[Command], Command]:
    """Return a decorator that adds -o/--output, --workdir and --json.

    The output must end in ``suffix``: later commands recognise files by it.
    """

    def check(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
        if value is None:
            return value
        if not value.name.endswith(suffix):
            raise click.BadParameter(f"{value} must end in {suffix}.")
        if len(os.fsencode(value.name)) > LONGEST_NAME:
            raise click.BadParameter(
                f"a name of more than {LONGEST_NAME} bytes leaves no room for the temporary files next to it."
            )
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise click.BadParameter(f"{os.fsencode(value)!r} is no text in UTF-8.") from None
        return value

    output = click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        callback=check,
        help=f"File to write ({suffix}), instead of one in --workdir.",
    )
    return functools.partial(with_options, (output, workdir_option, json_option))


def gathered(name: str, kind: type, options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Return a decorator that adds options, and hands their values to the command as one dataclass called ``name``."""
    fields = [field.name for field in dataclasses.fields(kind)]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_one(**values: Any) -> None:
            one = kind(**{field: values.pop(field) for field in fields})
            command(**{name: one}, **values)

        return with_options(options, with_one)

    return decorate


def with_options(options: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    """Add click options to a command, the first on top in its help."""
    for option in reversed(options):
        command = option(command)
    return command


sampling_options = gathered("sampling", Sampling, SAMPLING_OPTIONS)
"""Adds the options of ``Sampling``."""
loop_options = functools.partial(with_options, LOOP_OPTIONS)
"""Adds the options of the training loop, except its data."""
