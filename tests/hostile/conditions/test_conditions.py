import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from tests.hostile.conditions.commands import commands, write_inputs
from tests.hostile.conditions.disk import free_bytes, limit_files, small_disk
from tests.hostile.conditions.outcome import Outcome
from tests.hostile.conditions.trial import trial, undisturbed

COMMANDS = {command.name: command for command in commands()}
QUICK = ("image tif", "animation webp", "folder", "video mp4", "data prepare", "report")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder, "in"))
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root can mount a disk")
@pytest.mark.parametrize("name", QUICK)
def test_a_command_on_a_disk_that_becomes_full_leaves_nothing_and_succeeds_later(place: Path, name: str) -> None:
    with small_disk(place / "disk", 16) as disk:
        expected = undisturbed(COMMANDS[name], disk)
        half = free_bytes(disk, expected.most_bytes // 2)
        assert trial(COMMANDS[name], disk, expected.content, half) == ("refused", [])
    (place / "disk").rmdir()


@pytest.mark.parametrize("name", QUICK)
def test_a_command_whose_files_may_not_grow_leaves_nothing_and_succeeds_later(place: Path, name: str) -> None:
    (place / "disk").mkdir()
    expected = undisturbed(COMMANDS[name], place / "disk")
    limit = partial(limit_files, expected.largest // 2)
    assert trial(COMMANDS[name], place / "disk", expected.content, nullcontext(), limit) == ("refused", [])
    (place / "disk").rmdir()


@pytest.mark.parametrize(
    ("code", "printed", "fault"),
    [
        (0, "o.png  10x10\n", ""),
        (1, "Error: cannot write o.png: No space left on device.\n       Free some space.\n", ""),
        (1, "Traceback (most recent call last):\nOSError: no space.\n", "Traceback"),
        (1, "Error: OSError: no space.\n       This is a fault of drc-deploy: report it.\n", "fault of drc-deploy"),
        (0, "o.png  10x10\nException ignored in: <stdout>\n", "Exception ignored"),
        (1, "", "no sentences"),
        (-9, "", "SIGKILL"),
    ],
)
def test_how_a_command_ended_is_classified(code: int, printed: str, fault: str) -> None:
    assert Outcome(code, printed).fault().startswith(fault)
    assert bool(Outcome(code, printed).fault()) == bool(fault)
