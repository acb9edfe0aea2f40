import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drc_deploy.errors import InputError
from tests.hostile.mutations import MUTATIONS, damage
from tests.hostile.readers import examples
from tests.hostile.trial import attempt


def accept(_: Path) -> None:
    return


def refuse(_: Path) -> None:
    raise InputError("it is damaged.", "Copy it.")


def refuse_and_leave(_: Path) -> None:
    Path("left.txt").touch()
    raise InputError("it is damaged.", "Copy it.")


def fail(path: Path) -> None:
    raise ZeroDivisionError(path.name)


def crash(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def take_all(_: Path) -> None:
    bytearray(8 << 30)


def hang(_: Path) -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("reader", "kind", "detail"),
    [
        (accept, "right", ""),
        (refuse, "refused", "it is damaged. Copy it."),
        (refuse_and_leave, "fault", "it left left.txt"),
        (fail, "fault", "ZeroDivisionError: some.bin"),
        (crash, "fault", "SIGKILL"),
        (take_all, "fault", "MemoryError"),
        (hang, "fault", "it took more than 1 s"),
    ],
)
def test_what_became_of_an_input_is_classified(
    tmp_path: Path, reader: Callable[[Path], None], kind: str, detail: str
) -> None:
    result = attempt(reader, tmp_path / "some.bin", seconds=1 if reader is hang else 20)
    assert (result.kind, detail in result.detail) == (kind, True), result


@pytest.mark.parametrize("seed", range(50))
def test_damage_is_a_function_of_the_seed_and_changes_the_file(seed: int) -> None:
    content = random.Random(1).randbytes(3000)
    how, damaged = damage(content, random.Random(seed))
    assert (how, damaged) == damage(content, random.Random(seed))
    assert set(how.split("+")) <= MUTATIONS.keys()
    assert damaged != content


def test_every_example_is_read_when_it_is_whole(tmp_path: Path) -> None:
    faults = {}
    for example in examples():
        path = tmp_path / f"file{example.suffix}"
        path.write_bytes(example.content)
        result = attempt(example.read, path)
        if result.kind == "fault" or (result.kind == "refused" and example.name != "recipe"):
            faults[example.name] = result
    assert faults == {}
