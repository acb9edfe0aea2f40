"""Runs every command that writes on disks that become full at every place, and prints a table."""

import signal
import sys
import tempfile
from contextlib import nullcontext
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import click

from drc_deploy.printing import say
from tests.hostile.conditions.commands import Command, commands, write_inputs
from tests.hostile.conditions.disk import free_bytes, free_files, limit_files, small_disk
from tests.hostile.conditions.trial import Content, trial, undisturbed

_DISK_MIB = 64


@click.command()
@click.option("--points", default=20, show_default=True, help="Sizes of the disk up to what each command makes.")
@click.option("--only", default="*", show_default=True, help="Pattern of the commands' names.")
def main(points: int, only: str) -> None:
    """Fill the disk at many places of every command; exit with 1 after a fault. Needs root, and Linux."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or its disk would stay mounted
    say(f"{'command':<20}{'condition':<16}{'done':>6}{'refused':>9}{'faults':>8}")
    found = 0
    with tempfile.TemporaryDirectory() as place, small_disk(Path(place, "disk"), _DISK_MIB) as disk:
        write_inputs(Path(place, "in"))
        for command in commands():
            if fnmatch(command.name, only):
                made = undisturbed(command, disk)
                room = {"full disk": made.most_bytes, "ulimit -f": made.largest, "no files left": len(made.content) + 4}
                for condition, most in room.items():
                    found += _sweep(command, disk, made.content, condition, range(0, 8 * most, max(most // points, 1)))
    raise SystemExit(found > 0)


def _sweep(command: Command, disk: Path, expected: Content, condition: str, rooms: range) -> int:
    """Run a command with more and more room until it succeeds, print a line, and return the number of faults.

    Args:
        command: the command.
        disk: where it works.
        expected: what it makes undisturbed.
        condition: what there is little of.
        rooms: how much there is, in bytes or files.
    """
    counts, faults = {"done": 0, "refused": 0}, []
    for room in rooms:
        filled = {"full disk": free_bytes, "no files left": free_files}.get(condition)
        around = filled(disk, room) if filled else nullcontext()
        kind, wrong = trial(command, disk, expected, around, None if filled else partial(limit_files, room))
        counts[kind] += 1
        faults += [f"  at {room}: {fault}" for fault in wrong]
        if kind == "done":
            break
    say(f"{command.name:<20}{condition:<16}{counts['done']:>6}{counts['refused']:>9}{len(faults):>8}")
    for fault in faults:
        say(fault)
    return len(faults)


if __name__ == "__main__":
    main()
