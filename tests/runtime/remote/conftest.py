"""A server of S3, storage in memory, and files to upscale. What is optional is imported when it is needed."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.runtime.networks import write_nearest

if TYPE_CHECKING:
    from tests.runtime.remote.servers import S3


@pytest.fixture(scope="module")
def s3() -> "Iterator[S3]":
    import fsspec

    from tests.runtime.remote import servers

    with servers.s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # or the server of another module would be asked
        yield server
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # or the next file's tests would ask this server


@pytest.fixture
def bucket(s3: "S3", work: Path) -> str:
    """A bucket of its own, with the images in ``in/``."""
    import fsspec

    name = f"bucket-{os.urandom(4).hex()}"
    system = fsspec.filesystem("s3")
    system.mkdir(name)
    system.put(f"{work}/in/", f"{name}/in/", recursive=True)
    return f"s3://{name}"


@pytest.fixture
def memory() -> Iterator[Any]:
    import fsspec

    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an engine, and images in ``in/``; temporary files go to another."""
    from tests.runtime.remote.commands import IMAGES, noise

    write_nearest(tmp_path / "n.onnx")
    for number, name in enumerate(IMAGES):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(number)).save(path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path
