"""Runs every command that writes on disks that become full at every place, and prints a table."""

import tempfile
from contextlib import nullcontext
from fnmatch import fnmatch
from functools import partial
from itertools import count
from pathlib import Path

import click

from drc_deploy.printing import say
from tests.hostile.conditions.commands import commands, write_inputs
from tests.hostile.conditions.disk import free_bytes, limit_files, small_disk
from tests.hostile.conditions.trial import trial, undisturbed

_DISK_MIB = 64


@click.command()
@click.option("--points", default=20, show_default=True, help="Sizes of the disk for each command.")
@click.option("--only", default="*", show_default=True, help="Pattern of the commands' names.")
def main(points: int, only: str) -> None:
    """Fill the disk at many places of every command; exit with 1 after a fault."""
    say(f"{'command':<20}{'condition':<16}{'done':>6}{'refused':>9}{'faults':>8}")
    found = 0
    with tempfile.TemporaryDirectory() as place, small_disk(Path(place, "disk"), _DISK_MIB) as disk:
        write_inputs(Path(place, "in"))
        for command in commands():
            if not fnmatch(command.name, only):
                continue
            expected = undisturbed(command, disk)
            for name, most in (("full disk", expected.most_bytes), ("ulimit -f", expected.largest)):
                counts, faults = {"done": 0, "refused": 0}, []
                for size in count(0, max(most // points, 1)):
                    around = free_bytes(disk, size) if name == "full disk" else nullcontext()
                    inside = None if name == "full disk" else partial(limit_files, size)
                    kind, wrong = trial(command, disk, expected.content, around, inside)
                    counts[kind] += 1
                    faults += [f"  at {size}: {fault}" for fault in wrong]
                    if kind == "done" or size > 4 * most:
                        break
                say(f"{command.name:<20}{name:<16}{counts['done']:>6}{counts['refused']:>9}{len(faults):>8}")
                for fault in faults:
                    say(fault)
                found += len(faults)
    raise SystemExit(found > 0)


if __name__ == "__main__":
    main()
