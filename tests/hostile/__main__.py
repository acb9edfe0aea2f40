"""Runs the campaign for as long as it is asked to, prints a table and keeps what failed."""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import click
import torch

from drc_deploy.printing import say
from tests.hostile.damage import choose, damage
from tests.hostile.example import Example
from tests.hostile.examples import examples
from tests.hostile.saved import SAVED, Damaged

Faults = list[tuple[Damaged, str]]
_KINDS = ("right", "refused", "fault")


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="After the examples are made.")
@click.option("--seed", type=int, help="Of all that is random.  [default: of the clock]")
@click.option("--only", default="*", show_default=True, help="Pattern of the examples' names.")
@click.option("--keep", type=click.Path(path_type=Path), default=Path("hostile_failures"), show_default=True)
def main(seconds: float, seed: int | None, only: str, keep: Path) -> None:
    """Damage valid files of every kind and read each in a child process; exit with 1 after a fault.

    A fault is printed as a line for tests/hostile/saved.txt, and its file is kept in --keep.
    """
    seed = time.time_ns() % 2**32 if seed is None else seed
    torch.set_num_threads(1)  # a forked child has none of the others, and would wait for them for ever
    with tempfile.TemporaryDirectory() as folder:
        chosen = list(examples(Path(folder), only))
        say(f"seed {seed}, {len(chosen)} kinds of files, {seconds:g} s")
        for example in chosen:
            if problem := example.fault_when_whole():
                raise click.ClickException(problem)
        counts, faults = _run(chosen, random.Random(seed), seconds, keep)
    say(_table(chosen, counts))
    for damaged, detail in faults:
        say(f"fault: {damaged.line()}\n  {detail}")
    if faults:
        say(f"Their files are in {keep}. Add the lines to {SAVED.name} once they are mended.")
    raise SystemExit(bool(faults))


def _run(
    chosen: Sequence[Example], rng: random.Random, seconds: float, keep: Path
) -> tuple[Counter[tuple[str, str]], Faults]:
    counts: Counter[tuple[str, str]] = Counter()
    faults: Faults = []
    end = time.monotonic() + seconds
    for example in cycle(chosen):
        if time.monotonic() > end:
            return counts, faults
        damaged = Damaged(example.name, choose(example.file, rng), rng.randrange(2**32))
        content = damage(example.content, damaged.how, damaged.seed)
        result = example.attempt(content)
        counts[example.name, result.kind] += 1
        if result.kind == "fault":
            keep.mkdir(exist_ok=True)
            (keep / f"{len(faults)}_{Path(example.file).name}").write_bytes(content)
            faults.append((damaged, " ".join(result.detail.splitlines()[-1:])))
    return counts, faults


def _table(chosen: Sequence[Example], counts: Counter[tuple[str, str]]) -> str:
    rows = [(example.name, [counts[example.name, kind] for kind in _KINDS]) for example in chosen]
    rows.append(("all", [sum(column) for column in zip(*(row for _, row in rows), strict=True)]))
    head = f"{'file':<36}" + "".join(f"{kind:>9}" for kind in _KINDS)
    return "\n".join([head, *(f"{name:<36}" + "".join(f"{count:>9}" for count in row) for name, row in rows)])


if __name__ == "__main__":
    main()
