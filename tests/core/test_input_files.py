"""Files that are too long for what they are, and what is no file."""

import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from drc_deploy.bench.report.report_files import read_any
from drc_deploy.checkpoint_info import MOST_HEADER_BYTES, read_checkpoint_info
from drc_deploy.cli.config import _read as read_config
from drc_deploy.engine_info import read_onnx_info, read_sidecar
from drc_deploy.errors import DrcDeployError, InputError
from drc_deploy.images.blur import read_blur
from drc_deploy.input_files import MISSING, MOST_BYTES, no_file, open_file, read_bytes, why_not
from drc_deploy.latency_table import read_latency_table
from drc_deploy.locate import find_engine
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.state_dict_file import read_state_dict
from drc_deploy.train.data.store import read_index
from drc_deploy.train.degradation.settings import read_degradation
from drc_deploy.train.loop.journal import read_journal
from drc_deploy.widths import read_widths_file
from tests.runtime.networks import write_nearest


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/tty", "/"])
def test_devices_and_folders_are_not_opened(place: str) -> None:
    with pytest.raises(OSError, match="not a file"):
        open_file(Path(place))
    assert no_file(Path(place))


def test_a_pipe_is_not_waited_for_and_its_writer_is_not_disturbed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a pipe, not a file"):
        open_file(tmp_path / "pipe")
    thread = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"for another",))
    thread.start()
    assert (tmp_path / "pipe").read_bytes() == b"for another"
    thread.join()


@pytest.mark.parametrize("name", ["none", "none/none", "file/none", "a" * 5000, "a\0b"])
def test_names_without_a_file_are_called_missing(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    assert why_not(tmp_path / name) == MISSING
    assert why_not(tmp_path / "file") == ""
    assert why_not(tmp_path) == "is a folder, not a file"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
@pytest.mark.parametrize("closed", ["file", "folder"])
@pytest.mark.parametrize(
    "read",
    [
        read_checkpoint_info,
        read_state_dict,
        lambda path: open_backend(find_engine(str(path), Path())),
        open_backend,
        read_config,
    ],
)
def test_what_may_not_be_read_is_not_called_missing(closed: str, read: Callable[[Any], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "inside", "n.safetensors")
        path.parent.mkdir()
        path.write_bytes(save({"a": np.zeros(1)}))
        (path if closed == "file" else path.parent).chmod(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(DrcDeployError, match="Permission denied"):
                read(path)
        finally:
            os.seteuid(0)


def test_a_file_is_read_to_its_end_and_a_link_to_one_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)))
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_bytes(tmp_path / "b", 256) == bytes(range(256))
    with pytest.raises(OSError, match="longer than"):
        read_bytes(tmp_path / "b", 255)


def test_a_file_of_the_system_that_says_0_bytes_is_limited_too() -> None:
    assert read_bytes(Path("/proc/self/status")).startswith(b"Name:")
    with pytest.raises(OSError, match="longer than"):
        read_bytes(Path("/proc/self/status"), 10)


LONG: dict[str, Callable[[Path], object]] = {
    "report.json": read_any,
    "n.widths.json": read_widths_file,
    "n.latency.json": lambda path: read_latency_table(path, model="drn_xs", scale=4),
    "n.plan.json": lambda path: read_sidecar(path.with_name("n.plan")),
    "train.toml": read_config,
    "degradation.toml": read_degradation,
    "log.jsonl": lambda path: read_journal(path.parent),
    "index.json": lambda path: read_index(path.parent),
}


@pytest.mark.parametrize("name", LONG)
def test_a_file_of_text_that_is_far_too_long_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as stream:
        stream.truncate(1 << 40)  # a hole: nothing could read it into memory
    with pytest.raises(InputError, match="longer than"):
        LONG[name](tmp_path / name)


def test_a_long_report_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"reports": [' + "{}," * (60 << 20) + "{}]}")
    limited = 'ulimit -v 1500000; exec "$0" -m drc_deploy report "$1"'
    command = ["sh", "-c", limited, sys.executable, str(tmp_path / "report.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Error: cannot read " in done.stderr
    assert "it is longer than 32 MiB" in done.stderr


@pytest.mark.parametrize("read", [read_checkpoint_info, read_state_dict])
def test_the_header_of_a_safetensors_file_has_a_limit(tmp_path: Path, read: Callable[[Path], object]) -> None:
    header = json.dumps({"__metadata__": {"x": " " * MOST_HEADER_BYTES}}).encode()
    (tmp_path / "n.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InputError, match="header would be longer than 16 MiB"):
        read(tmp_path / "n.safetensors")


def test_a_header_of_many_tensors_is_read(tmp_path: Path) -> None:
    (tmp_path / "n.safetensors").write_bytes(save({f"layer{i}.weight": np.zeros(1, np.float32) for i in range(5000)}))
    assert len(read_state_dict(tmp_path / "n.safetensors")) == 5000


def test_the_metadata_of_an_onnx_have_a_limit(tmp_path: Path) -> None:
    import onnx

    write_nearest(tmp_path / "n.onnx")
    model = onnx.load(tmp_path / "n.onnx")
    model.metadata_props.add(key="other", value=" " * MOST_BYTES)
    onnx.save(model, tmp_path / "n.onnx")
    with pytest.raises(InputError, match="metadata are longer than 32 MiB"):
        read_onnx_info(tmp_path / "n.onnx")


def test_a_kernel_that_unpacks_to_very_much_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "k.npz", kernel=np.zeros((2300, 2300)), scale=4, reduction="subsample")
    assert (tmp_path / "k.npz").stat().st_size < 1 << 20
    with pytest.raises(InputError, match="is no file of a blur kernel"):
        read_blur(tmp_path / "k.npz")
