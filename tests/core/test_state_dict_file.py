"""Torch files are checked before torch opens them: their checksums, and what they would make it allocate."""

import contextlib
import copy
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from drc_deploy.errors import ArtefactError
from drc_deploy.state_dict_file import read_state_dict


def _flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


def _data_start(path: Path, ending: str) -> int:
    """Return where the bytes of a stored entry begin, by APPNOTE.TXT of PKWARE, 4.3.7."""
    with zipfile.ZipFile(path) as archive:
        item = next(item for item in archive.infolist() if item.filename.endswith(ending))
    name, extra = struct.unpack_from("<HH", path.read_bytes(), item.header_offset + 26)
    return int(item.header_offset + 30 + name + extra)


@pytest.mark.parametrize("position", [0, 1, 4000, 39_999])
def test_one_flipped_bit_of_a_weight_is_found(tmp_path: Path, position: int) -> None:
    torch.save({"a": torch.ones(10_000)}, tmp_path / "net.pt")
    _flip(tmp_path / "net.pt", _data_start(tmp_path / "net.pt", "/data/0") + position)
    with pytest.raises(ArtefactError, match="damaged"):
        read_state_dict(tmp_path / "net.pt")


def test_files_that_torch_wrote_without_checksums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(4)}, tmp_path / "net.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_state_dict(tmp_path / "net.pt")["a"].tolist() == [0, 1, 2, 3]


def test_entries_of_an_archive_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1 << 18)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "net.pt", "w") as bomb:
        for item in plain.infolist():
            bomb.writestr(item.filename, plain.read(item))
        for index in range(1, 9):  # the directory at the end is written from this list
            item = copy.copy(bomb.getinfo("plain/data/0"))
            item.filename = f"plain/data/{index}"
            bomb.filelist.append(item)
    with pytest.raises(ArtefactError, match="more than the file is long"):
        read_state_dict(tmp_path / "net.pt")


class _Calls:
    """Pickled as a call, which torch makes when it loads the file."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "call",
    [
        _Calls(bytearray, 1 << 24),
        _Calls(
            torch._utils._rebuild_device_tensor_from_cpu_tensor,
            torch.zeros(1).expand(1 << 22),
            torch.float64,
            torch.device("cpu"),
            False,
        ),
    ],
)
def test_files_that_have_memory_filled_while_they_are_read_are_refused(
    tmp_path: Path, call: _Calls, zipped: bool
) -> None:
    state = {"a": torch.ones(3), "fill": call}
    torch.save(state, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ArtefactError, match="which no state dict needs"):
        read_state_dict(tmp_path / "net.pt")


@pytest.mark.parametrize("tensor", [torch.zeros(1).expand(1 << 40), torch.empty(1 << 40, 0)])
def test_shapes_are_bounded_by_the_length_of_the_file(tmp_path: Path, tensor: Tensor) -> None:
    torch.save({"a": tensor}, tmp_path / "net.pt")
    with pytest.raises(ArtefactError, match=r"would take \d{3,} times the length"):
        read_state_dict(tmp_path / "net.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_every_cut_and_many_changed_bytes_end_in_a_sentence_or_in_tensors(tmp_path: Path, zipped: bool) -> None:
    path, generator = tmp_path / "net.pt", torch.Generator().manual_seed(1)
    torch.save({"a.weight": torch.ones(2, 3)}, path, _use_new_zipfile_serialization=zipped)
    good = path.read_bytes()
    for position in torch.randint(len(good), (150,), generator=generator).tolist():
        path.write_bytes(good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :])
        _read_or_refuse(path)
        path.write_bytes(good[:position])
        _read_or_refuse(path)


def _read_or_refuse(path: Path) -> None:
    with contextlib.suppress(ArtefactError):
        assert read_state_dict(path)


def test_what_training_programs_keep_next_to_weights_is_read(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    torch.save({"state_dict": {"a": parameter}, "epoch": 3, "rng": torch.get_rng_state()}, tmp_path / "net.pt")
    assert read_state_dict(tmp_path / "net.pt")["a"].tolist() == [1, 1]
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ArtefactError):
        read_state_dict(tmp_path / "plain.pt")
