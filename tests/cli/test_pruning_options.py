"""Options that take several values after one name."""

import click
import pytest
from click.testing import CliRunner

from drc_deploy.cli.pruning_options import ManyValues
from drc_deploy.printing import say


@click.command(cls=ManyValues)
@click.option("--ratio", type=float, multiple=True, default=(0.3,))
@click.option("--name", multiple=True)
@click.option("--seed", type=int, default=1)
@click.argument("files", nargs=-1)
def command(ratio: tuple[float, ...], name: tuple[str, ...], seed: int, files: tuple[str, ...]) -> None:
    say(repr((ratio, name, seed, files)))


@pytest.mark.parametrize(
    ("typed", "parsed"),
    [
        ("", ((0.3,), (), 1, ())),
        ("--ratio 0.5", ((0.5,), (), 1, ())),
        ("--ratio 0.3 0.5 0.7", ((0.3, 0.5, 0.7), (), 1, ())),
        ("--ratio 0.3 --ratio 0.5 0.7", ((0.3, 0.5, 0.7), (), 1, ())),
        ("--ratio 0.3 -0.5 --seed 2", ((0.3, -0.5), (), 2, ())),
        ("--ratio=0.3 --name a b --seed 3", ((0.3,), ("a", "b"), 3, ())),
        ("--seed 2 x --ratio 0.1 0.2 -- y", ((0.1, 0.2), (), 2, ("x", "y"))),
    ],
)
def test_several_values_after_one_name(typed: str, parsed: object) -> None:
    result = CliRunner().invoke(command, typed.split())
    assert result.output == f"{parsed!r}\n"
