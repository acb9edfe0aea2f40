"""Options and messages that the commands around search and pruning share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click

from drc_deploy.cli.training_options import Command, gathered, option
from drc_deploy.errors import UsageError
from drc_deploy.printing import say
from drc_deploy.train.search.search_options import Cut, Importance
from drc_deploy.widths import Target, amount

if TYPE_CHECKING:
    from drc_deploy.checkpoint import Parent
    from drc_deploy.checkpoint_info import CheckpointInfo
    from drc_deploy.latency_table import LatencyTable
    from drc_deploy.train.data.photographs import Photographs
    from drc_deploy.train.loop.run_options import TargetImages
    from drc_deploy.widths import WidthsFile


class ManyValues(click.Command):
    """A command whose repeatable options also take several values after one name: ``--ratio 0.3 0.5 0.7``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write ``--ratio 0.3 0.5`` as ``--ratio 0.3 --ratio 0.5``, then parse as ever."""
        repeatable = {name for p in self.params if isinstance(p, click.Option) and p.multiple for name in p.opts}
        return super().parse_args(ctx, list(_repeated(args, repeatable)))


def _repeated(args: list[str], repeatable: set[str]) -> Iterator[str]:
    option, values = "", 0
    for position, word in enumerate(args):
        if word == "--":
            yield from args[position:]
            return
        if word.startswith("-") and not _is_number(word):
            option, values = (word if word in repeatable else ""), 0
        elif option:
            values += 1
            if values > 1:
                yield option
        yield word


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Bound:
    """The bound that the pruned network has to meet."""

    target: Target
    round_to: int
    cut: Cut
    latency_table: Path | None

    def read_latency(self, info: "CheckpointInfo") -> "LatencyTable | None":
        """Return the table of times for a bound on latency; None for another bound.

        Raises:
            UsageError: a bound on latency comes without a table, a table with another bound, or either for a network
                of another program.
            ArtefactError: the table cannot be used for this model.
        """
        from drc_deploy.latency_table import read_latency_table

        if info.foreign and (self.target == "latency" or self.latency_table):
            raise UsageError(
                f"no table of latency is made for {info.model}: it is a network of another program.",
                "Give --target madds, and measure the result with `drc-deploy bench`.",
            )
        if (self.target == "latency") != (self.latency_table is not None):
            raise UsageError(
                "--target latency and --latency-table go together.",
                f"Make a table on the machine that will run the network: drc-deploy latency {info.model}.",
            )
        return (
            read_latency_table(self.latency_table, model=info.model, scale=info.scale) if self.latency_table else None
        )


def bound_options(default_target: Target = "channels") -> Callable[[Command], Command]:
    """Return a decorator that adds the options of ``Bound`` and hands them to the command as ``bound``."""
    options = (
        option(
            "--target",
            type=click.Choice(get_args(Target)),
            default=default_target,
            help="Quantity that --ratio bounds: channels of every layer (the paper), or parameters, multiply-adds or "
            "milliseconds of the whole network.",
        ),
        option(
            "--round-to",
            type=click.IntRange(min=1),
            default=4,
            help="Widths are multiples of this; 8 and 16 suit tensor cores.",
        ),
        option(
            "--cut",
            type=click.Choice(get_args(Cut)),
            default="inner",
            help="inner: what is made and then read. trunk: also what blocks add up, which saves more. "
            "drn_xs, drn_s and drn_l have none.",
        ),
        click.option(
            "--latency-table",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="File of `drc-deploy latency` from the machine that will run the network, for --target latency.",
        ),
    )

    return gathered("bound", Bound, options)


OF_BUDGET = "  [default: the budget's]"


def order_option(default: int | None = 1) -> Callable[[Command], Command]:
    """Return a decorator that adds --order; without a default it is that of a budget."""
    text = "2 looks one step of training ahead, in about 2.5 times the time (paper)."
    return option("--order", type=click.IntRange(1, 2), default=default, help=text + ("" if default else OF_BUDGET))


def importance_option(default: Importance | None = "energy") -> Callable[[Command], Command]:
    """Return a decorator that adds --importance; without a default it is that of a budget."""
    text = "What ranks channels in a search: what they add to the output, or the L1 norm of weights (paper)."
    kinds = click.Choice(get_args(Importance))
    return option("--importance", type=kinds, default=default, help=text + ("" if default else OF_BUDGET))


gamma_option = option("--gamma", default=1.0, help="Weight of the dual regression loss in pruning, next to features.")
dual_weight_option = option("--dual-weight", default=0.1, help="Lambda, the weight of the duals; 0: without.")
refit_option = click.option(
    "--refit/--no-refit",
    default=None,
    help="Whether pruning by drc or dcp solves for the weights that stay. The papers have gradient descent alone.  "
    "[default: drc does]",
)

TargetChoice = Literal["auto", "photographs", "self"]
target_images_option = option(
    "--target-images",
    type=click.Choice(get_args(TargetChoice)),
    default="auto",
    help="What the smaller network follows: photographs, or the images of the network itself. auto: its own images "
    "where it was not trained to come close to photographs, as after training against a discriminator.",
)


def chosen_targets(choice: TargetChoice, parent: "Parent", photographs: "Photographs", patch: int) -> "TargetImages":
    """Return what a smaller network is to follow; where that was measured, print why on standard error."""
    from drc_deploy.train.data.targets import suitable_targets

    if choice != "auto" or parent.info.foreign is None:
        return "photographs" if choice == "auto" else choice
    targets, psnr, of_bicubic = suitable_targets(parent.checkpoint.build_network(), photographs, patch)
    which = "the photographs" if targets == "photographs" else "the images of the network itself"
    say(
        f"Targets: {which}. The network comes to {psnr:.1f} dB of the photographs, bicubic to {of_bicubic:.1f} dB.",
        err=True,
    )
    return targets


def asked_and_reached(found: "WidthsFile") -> str:
    """Return a line with the bound that was asked of the search and what it reached."""
    assert found.asked is not None
    assert found.reached is not None
    assert found.full is not None
    share = 100 * (1 - found.reached / found.full)
    return (
        f"Asked: at most {amount(found.asked)} {found.unit} ({100 * found.ratio:g} % less than {amount(found.full)}); "
        f"reached: {amount(found.reached)} ({share:.1f} % less)"
    )


def timed_here(found: "WidthsFile", table: "LatencyTable") -> dict[str, float] | None:
    """Time the networks before and after, in milliseconds; None on another machine than the table's.

    A bound on latency counts in a sum of layers, which is only an estimate.
    """
    from drc_deploy.models.network import ModelSpec
    from drc_deploy.train.search.layer_timing import this_device, time_networks

    if table.device != this_device():
        return None
    specs = [ModelSpec(found.model, found.scale, widths) for widths in (None, found.widths)]
    return dict(zip(("unpruned", "reached"), time_networks(specs, table.height, table.width), strict=True))


def times_text(timed: dict[str, float] | None, table: "LatencyTable") -> str:
    """Return a line with the result of ``timed_here``."""
    if timed is None:
        return f"Not timed: the table was measured on another machine ({table.device})."
    share = 100 * (1 - timed["reached"] / timed["unpruned"])
    return f"Timed now: {timed['reached']:.2f} ms, unpruned {timed['unpruned']:.2f} ms ({share:.1f} % less)"
