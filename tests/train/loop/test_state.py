"""States in parts: the same tree comes back, a kill leaves the state before, and what is not whole is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import save

from drc_deploy.errors import ArtefactError
from drc_deploy.files import write_bytes
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop import parts
from drc_deploy.train.loop.state import load_state, save_state
from drc_deploy.train.loop.trainer import Trainer
from tests.train.interruption import interrupt_after
from tests.train.runs import OPTIONS, assert_same_weights, train_fresh

MOST = 1000
"""Bytes of a part."""


@pytest.fixture(autouse=True)
def _parts_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", MOST)


def tree(seed: int) -> dict[str, Any]:
    """Return about 4 kB, in one tensor that is larger than a part and others."""
    random = torch.Generator().manual_seed(seed)
    large = torch.rand(30, 30, generator=random)
    return {"options": {}, "large": large, "items": {3: torch.arange(4), "n": [1, 2.5, None, "x"]}, "seed": seed}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_is(found: dict[str, Any] | None, seed: int) -> None:
    assert found is not None
    expected = tree(seed)
    assert torch.equal(found["large"], expected["large"])
    assert torch.equal(found["items"][3], expected["items"][3])
    assert (found["items"]["n"], found["seed"]) == (expected["items"]["n"], seed)


def test_a_large_state_comes_back_from_parts_below_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, tree(1))
    sizes = {name: len(content) for name, content in files(tmp_path).items() if name != path.name}
    assert len(sizes) == 5
    assert max(sizes.values()) == MOST
    assert path.stat().st_size < MOST
    check_is(load_state(path, {}), 1)


def test_a_small_state_is_one_file(tmp_path: Path) -> None:
    save_state(tmp_path / "state.safetensors", {"options": {}, "x": torch.zeros(2)})
    assert list(files(tmp_path)) == ["state.safetensors"]


def test_a_new_state_takes_the_place_of_all_parts_of_the_old_one(tmp_path: Path) -> None:
    other = tmp_path / "state2.safetensors"
    save_state(other, tree(3))
    before = set(files(tmp_path))
    path = tmp_path / "state.safetensors"
    save_state(path, tree(1))
    first = set(files(tmp_path)) - before
    save_state(path, tree(2))
    assert first & set(files(tmp_path)) == {path.name}
    check_is(load_state(path, {}), 2)
    save_state(path, {"options": {}})  # a small one, with no parts at all
    assert set(files(tmp_path)) == before | {path.name}
    parts.remove_with_parts(path)
    assert set(files(tmp_path)) == before
    check_is(load_state(other, {}), 3)


@pytest.mark.parametrize("written", range(6))
def test_a_kill_between_parts_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, tree(1))
    count = 0

    def write(target: Path, data: bytes) -> None:
        nonlocal count
        if count == written:
            raise SystemExit
        count += 1
        write_bytes(target, data)

    with monkeypatch.context() as patch:
        patch.setattr(parts, "write_bytes", write)
        with pytest.raises(SystemExit):
            save_state(path, tree(2))
    check_is(load_state(path, {}), 1)
    save_state(path, tree(2))
    check_is(load_state(path, {}), 2)
    assert len(files(tmp_path)) == 6  # what the killed process left is gone


def killed(*_arguments: object, **_named: object) -> None:
    raise SystemExit


def test_a_kill_before_the_old_parts_are_removed_leaves_the_new_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, tree(1))
    with monkeypatch.context() as patch:
        patch.setattr(parts, "_remove_parts", killed)
        with pytest.raises(SystemExit):
            save_state(path, tree(2))
    check_is(load_state(path, {}), 2)


def test_a_part_that_is_missing_damaged_or_of_another_save_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, tree(2))
    other = [content for name, content in sorted(files(tmp_path).items()) if name != path.name]
    save_state(path, tree(1))
    for number, name in enumerate(sorted(name for name in files(tmp_path) if name != path.name)):
        part = tmp_path / name
        whole = part.read_bytes()
        flipped = bytes([whole[0] ^ 1]) + whole[1:]
        for content, words in ((None, "is missing"), *((c, "is damaged") for c in (flipped, b"", other[number]))):
            part.unlink()
            if content is not None:
                part.write_bytes(content)
            with pytest.raises(ArtefactError, match=words) as caught:
                load_state(path, {})
            assert name in caught.value.message
            part.write_bytes(whole)
    check_is(load_state(path, {}), 1)


def test_a_damaged_list_of_parts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, tree(1))
    whole = path.read_bytes()
    foreign, mixed = whole.replace(b"state-01", b"other-01"), whole.replace(b"-02-", b"-03-")
    for content in (b"", whole[:-20], whole[:20], foreign, mixed):
        path.write_bytes(content)
        with pytest.raises(ArtefactError):
            load_state(path, {})


def test_a_run_goes_on_in_a_copy_of_its_folder_with_the_same_weights(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 500_000)
    train_fresh(photographs, OPTIONS, tmp_path / "straight.safetensors")
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 4)
        with pytest.raises(KeyboardInterrupt):
            train_fresh(photographs, OPTIONS, tmp_path / "here" / "net.safetensors")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert all(path.stat().st_size <= 500_000 for path in (tmp_path / "there").rglob("state*"))
    train_fresh(photographs, OPTIONS, tmp_path / "there" / "net.safetensors")
    assert_same_weights(tmp_path / "straight.safetensors", tmp_path / "there" / "net.safetensors")
    assert not list((tmp_path / "there" / "net.run").glob("state*"))


def test_any_flipped_bit_of_a_small_state_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    tree = {
        "options": {"a": 1},
        "x": torch.ones(50),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "none": torch.empty(0),
    }
    save_state(path, tree)
    assert load_state(path, {"a": 1}) is not None
    good = path.read_bytes()
    for position in range(0, len(good), 7):
        path.write_bytes(good[:position] + bytes([good[position] ^ 4]) + good[position + 1 :])
        with pytest.raises(ArtefactError):
            load_state(path, {"a": 1})


@pytest.mark.parametrize("listed", ["[" * 100_000, '["a"]', "{}{", "1", '{"a": 1}'])
def test_a_list_of_parts_that_cannot_be_one_is_refused(tmp_path: Path, listed: str) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(save({}, metadata={"drc_deploy_parts": listed}))
    with pytest.raises(ArtefactError, match="not a readable training state"):
        load_state(path, {})


@pytest.mark.parametrize("deep", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000])
def test_a_header_nested_too_deeply_is_refused(tmp_path: Path, deep: str) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(len(deep).to_bytes(8, "little") + deep.encode())
    with pytest.raises(ArtefactError, match="not a readable training state"):
        load_state(path, {})
