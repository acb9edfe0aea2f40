import glob
import hashlib
import io
import json
import os
import random
import signal
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from drc_deploy.errors import InputError
from tests.hostile.damage import AWARE, choose, damage
from tests.hostile.example import single
from tests.hostile.examples import examples
from tests.hostile.saved import Damaged, read_saved
from tests.hostile.trial import WrongResultError, attempt


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


def differ(path: Path) -> None:
    if path.read_bytes() != b"x":
        raise WrongResultError("it is another one")


def _png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(300, dtype=np.uint16).astype(np.uint8).reshape(10, 10, 3)).save(stream, "PNG")
    return stream.getvalue()


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", b"some words")
        archive.writestr("b", b"and others")
    return stream.getvalue()


_JSON = json.dumps({"a": [1, 2.5, None], "b": {"c": "x"}}).encode()
VALID = {
    ".json": _JSON,
    ".jsonl": _JSON + b"\n" + _JSON + b"\n",
    ".toml": b'a = 1\nb = ["x", "y"]\n',
    ".npz": _zip(),
    ".pt": _zip(),
    ".png": _png(),
    ".safetensors": save({"a": np.arange(9.0)}, metadata={"m": _JSON.decode()}),
}


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
    result = attempt(reader, tmp_path / "some.bin", tmp_path, seconds=1 if reader is hang else 20)
    assert (result.kind, detail in result.detail) == (kind, True), result


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("file", ["x.bin", *(f"x{suffix}" for suffix in AWARE)])
def test_damage_is_a_function_of_the_seed_and_changes_the_file(file: str, seed: int) -> None:
    content = VALID.get(Path(file).suffix, random.Random(1).randbytes(3000))
    how = choose(file, random.Random(seed))
    damaged = damage(content, how, seed)
    assert how == choose(file, random.Random(seed))
    assert damaged == damage(content, how, seed)
    assert damaged != content


def test_json_that_is_damaged_as_json_keeps_its_seal() -> None:
    content = b'{"a": [1, 2], "b": {"c": "x"}}'
    sealed = content + f"\n{hashlib.sha256(content).hexdigest()}\n".encode()
    for seed in range(20):
        damaged, _, sha256 = damage(sealed, "json", seed).removesuffix(b"\n").rpartition(b"\n")
        assert hashlib.sha256(damaged).hexdigest() == sha256.decode()
        assert damaged != content


def test_another_result_of_a_damaged_file_is_a_fault(tmp_path: Path) -> None:
    example = single(tmp_path, "some", "a.txt", partial(Path.write_bytes, data=b"x"), differ)
    assert example.fault_when_whole() == ""
    assert example.attempt(b"y").kind == "fault"


def test_a_line_of_saved_damage_is_read_as_it_was_printed(tmp_path: Path) -> None:
    damaged = Damaged("image png", "flip_bits+cut", 7)
    (tmp_path / "saved.txt").write_text(f"# for people\n\n{damaged.line()}\n")
    assert read_saved(tmp_path / "saved.txt") == [damaged]


@pytest.mark.slow
def test_every_example_is_read_when_it_is_whole(tmp_path: Path) -> None:
    assert [fault for example in examples(tmp_path) if (fault := example.fault_when_whole())] == []


@pytest.mark.slow
def test_what_was_a_fault_once_is_none_now(tmp_path: Path) -> None:
    faults = []
    for index, line in enumerate(read_saved()):
        (example,) = examples(tmp_path / str(index), glob.escape(line.name))
        result = example.attempt(damage(example.content, line.how, line.seed))
        faults += [(line.line(), result.detail)] if result.kind == "fault" else []
    assert faults == []
