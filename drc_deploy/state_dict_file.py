"""State dicts in files of other programs: opened without running anything, and unwrapped."""

import io
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from drc_deploy.checkpoint_info import check_header
from drc_deploy.errors import ArtefactError
from drc_deploy.input_files import why_not

WRAPPERS = (
    "params_ema",
    "params-ema",
    "params",
    "model_state_dict",
    "state_dict",
    "model",
    "generator",
    "net",
)
"""Keys under which training programs keep a network's state dict, the first found first: averaged weights are better
than those of the last step."""
PREFIXES = ("module.", "_orig_mod.", "netG.")
"""Put before every name by parallel training, ``torch.compile``, and programs that train several networks."""
SPREAD = 4
"""Tensors may share memory in a file, as tied weights do, but a file that says it holds much more than it is long is
made to fill the memory."""
_FILLING = ("bytearray", "_rebuild_device_tensor_from_cpu_tensor", "_rebuild_device_tensor_from_numpy")
"""Functions that torch lets a file call, and that fill as much memory as the file says. No state dict needs them."""
_HARMFUL = "Do not use it: it is made to fill the memory."
_LEGACY_PICKLES = 4
"""A file of torch before 1.6 begins with a magic number, a version, facts of the system and the tensors."""
_SAFETENSORS_HEADER = 8
_ZIP = b"PK\3\4"
"""What torch goes by."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a network from a torch or safetensors file; its wrappers and prefixes are removed.

    Raises:
        ArtefactError: missing, damaged, a pickle with code in it, TorchScript, or no state dict.
    """
    state = load_tensors(path)
    for _ in range(2):  # some programs wrap twice
        if not is_state_dict(state) and isinstance(state, Mapping):
            inside = [state[key] for key in WRAPPERS if isinstance(state.get(key), Mapping) and state[key]]
            state = next(filter(is_state_dict, inside), inside[0] if inside else state)
    if not is_state_dict(state):
        raise ArtefactError(f"{path} is not a state dict{_contents(state)}.", "Give the file of one network's weights.")
    return _without_prefixes({str(name): tensor for name, tensor in state.items()})


def is_state_dict(value: Any) -> bool:
    """Return whether ``value`` maps names to tensors and has any."""
    return isinstance(value, Mapping) and all(isinstance(item, Tensor) for item in value.values()) and bool(value)


def load_tensors(path: Path) -> Any:
    """Return what a torch or safetensors file holds: tensors and containers of them.

    Raises:
        ArtefactError: as ``read_state_dict``.
    """
    if why := why_not(path):  # opening a pipe would wait for ever
        raise ArtefactError(f"{path} {why}.", "Check the path and its permissions.")
    loaded = _load_safetensors(path) if _is_safetensors(path) else _load_torch(path)
    size, length = _size(loaded), path.stat().st_size
    if size > SPREAD * length:
        raise ArtefactError(
            f"the tensors of {path} would take {size // length} times the length of the file.",
            _HARMFUL,
        )
    return loaded


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(_SAFETENSORS_HEADER + 1)[_SAFETENSORS_HEADER:] == b"{"


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        check_header(path)
        return load_file(path)
    except (SafetensorError, OSError, KeyError) as error:  # KeyError: a type of numbers that torch lacks
        raise ArtefactError(f"{path} is not a readable safetensors file: {error}.", "Download it again.") from error


def _load_torch(path: Path) -> Any:
    try:
        _check_torch_file(path)
        with warnings.catch_warnings():
            # torch warns about foreign pickle protocols before it refuses them; the refusal is enough.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ArtefactError(
            f"{path} is not a file of plain tensors: it may hold code, and is not opened.",
            "Import a state dict, as torch.save(net.state_dict(), FILE) writes it.",
        ) from error
    except ArtefactError:
        raise
    except Exception as error:  # a damaged pickle fails wherever it happens to, also for want of memory
        raise ArtefactError(f"{path} is damaged or not a torch file.", "Download it again.") from error


def _check_torch_file(path: Path) -> None:
    """Refuse files that torch.save does not write, that are damaged, or that make torch fill the memory.

    torch opens whatever the file says, and does not compare the checksums of an archive.
    """
    with path.open("rb") as stream:
        if stream.read(len(_ZIP)) != _ZIP:
            stream.seek(0)
            for _ in range(_LEGACY_PICKLES):
                _check_pickle(stream, path)
            return
    with zipfile.ZipFile(path) as archive:
        _check_archive(archive, path)
    # torch's own reader, so that what is checked is what torch opens.
    _check_pickle(io.BytesIO(torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")), path)


def _check_pickle(stream: IO[bytes], path: Path) -> None:
    """Refuse a pickle by the functions that it names; nothing of it is run."""
    names = (
        str(argument).rpartition(" ")[2] for code, argument, _ in pickletools.genops(stream) if code.name == "GLOBAL"
    )
    if found := next((name for name in names if name in _FILLING), None):
        raise ArtefactError(f"{path} calls {found}, which no state dict needs.", _HARMFUL)


def _check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    items = archive.infolist()
    if any(item.filename.rpartition("/")[2] == "constants.pkl" for item in items):
        raise ArtefactError(
            f"{path} is a TorchScript program, which is code, and is not opened.",
            "Save the state dict of the network: torch.save(network.state_dict(), FILE).",
        )
    if any(item.compress_type != zipfile.ZIP_STORED for item in items):
        raise ArtefactError(
            f"{path} is a compressed archive, which torch does not write.", "Unpack it, and give the file inside."
        )
    if sum(item.file_size for item in items) > path.stat().st_size:
        raise ArtefactError(f"the entries of {path} are together more than the file is long.", _HARMFUL)
    # torch can be set to write zeros in place of checksums.
    if any(item.CRC for item in items) and (damaged := archive.testzip()):
        raise ArtefactError(f"{path} is damaged: the checksum of {damaged} is wrong.", "Download it again.")


def _size(loaded: Any) -> int:
    """Return the bytes of all tensors in nested containers; a container that is met again counts once.

    Sides of no length count as 1, because networks are built by the other sides of a tensor too.
    """
    size, waiting, seen = 0, [loaded], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            size += prod(side or 1 for side in value.shape) * value.element_size()
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, Mapping) else value)
    return size


def _contents(value: Any) -> str:
    if not isinstance(value, Mapping) or not value:
        return ""
    names = [str(name)[:40] for name in value]
    return f": it holds {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove what stands before every name."""
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state
