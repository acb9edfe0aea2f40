"""Runs the campaign for as long as it is asked to, prints a table and keeps what failed."""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatch
from itertools import cycle
from pathlib import Path

import click

from drc_deploy.printing import say
from tests.hostile.mutations import damage
from tests.hostile.readers import Example, examples
from tests.hostile.trial import Result, attempt


@click.command()
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--seed", type=int, help="Of all that is random.  [default: of the clock]")
@click.option("--only", default="*", show_default=True, help="Pattern of the examples' names.")
@click.option("--keep", type=click.Path(path_type=Path), default=Path("hostile_failures"), show_default=True)
def main(seconds: float, seed: int | None, only: str, keep: Path) -> None:
    """Damage valid files of every kind and read each in a child process; exit with 1 after a fault."""
    seed = time.time_ns() % 2**32 if seed is None else seed
    chosen = [example for example in examples() if fnmatch(example.name, only)]
    say(f"seed {seed}, {len(chosen)} kinds of files, {seconds:g} s")
    _check_valid(chosen)
    counts, faults = _run(chosen, random.Random(seed), seconds, keep)
    say(_table(chosen, counts))
    for name, detail in faults:
        say(f"fault: {name}: {detail}")
    raise SystemExit(bool(faults))


def _check_valid(chosen: Sequence[Example]) -> None:
    """Refuse a campaign in which the files that are damaged cannot be read when they are whole."""
    for example in chosen:
        result = _attempt(example, example.content)
        if result.kind == "fault" or (result.kind == "refused" and example.name != "recipe"):
            raise click.ClickException(f"{example.name} is {result.kind} when it is whole: {result.detail}")


def _run(
    chosen: Sequence[Example], rng: random.Random, seconds: float, keep: Path
) -> tuple[Counter[tuple[str, str]], list[tuple[str, str]]]:
    counts: Counter[tuple[str, str]] = Counter()
    faults: list[tuple[str, str]] = []
    end = time.monotonic() + seconds
    for example in cycle(chosen):
        if time.monotonic() > end:
            return counts, faults
        how, content = damage(example.content, rng)
        result = _attempt(example, content)
        counts[example.name, result.kind] += 1
        if result.kind == "fault":
            keep.mkdir(exist_ok=True)
            path = keep / f"{example.name.replace(' ', '_')}_{len(faults)}{example.suffix}"
            path.write_bytes(content)
            faults.append((example.name, f"{how}, kept in {path}: {result.detail.splitlines()[-1:]}"))
    return counts, faults


def _attempt(example: Example, content: bytes) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"file{example.suffix}")
        path.write_bytes(content)
        return attempt(example.read, path)


def _table(chosen: Sequence[Example], counts: Counter[tuple[str, str]]) -> str:
    kinds = ("right", "refused", "fault")
    lines = [f"{'file':<32}" + "".join(f"{kind:>9}" for kind in kinds)]
    lines += [
        f"{example.name:<32}" + "".join(f"{counts[example.name, kind]:>9}" for kind in kinds) for example in chosen
    ]
    totals = [sum(count for (_, kind), count in counts.items() if kind == wanted) for wanted in kinds]
    return "\n".join([*lines, f"{'all':<32}" + "".join(f"{total:>9}" for total in totals)])


if __name__ == "__main__":
    main()
