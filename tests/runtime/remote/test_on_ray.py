"""Files of a bucket, upscaled by workers of Ray. One is killed while it puts a result."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.patience import PATIENCE_S, ended
from tests.runtime.networks import write_nearest
from tests.runtime.remote.servers import S3, s3_server

fsspec = pytest.importorskip("fsspec")
for package in ("ray", "s3fs", "moto"):
    pytest.importorskip(package)
pytestmark = pytest.mark.slow

COUNT = 6


def worker_of(server: S3) -> int:
    """Return a worker that has this server in its environment: no other test's."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_worker = process.joinpath("cmdline").read_bytes().startswith(b"ray::Worker.run")
            if is_worker and server.address.encode() in process.joinpath("environ").read_bytes():
                return int(process.name)
        except OSError:
            continue
    raise AssertionError


def test_workers_fetch_and_put_though_one_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nearest(tmp_path / "n.onnx")
    (tmp_path / "in").mkdir()
    for seed in range(COUNT):
        image = np.random.default_rng(seed).integers(0, 256, (40 + seed, 50, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / "in" / f"{seed}.png")
    command = [sys.executable, "-m", "drc_deploy", "upscale", "--engine", "n.onnx", "--format", "bmp", "--threads", "1"]
    subprocess.run([*command, "in", "-o", "alone"], cwd=tmp_path, check=True, capture_output=True)
    made = {path.name: path.read_bytes() for path in (tmp_path / "alone").glob("*.bmp")}
    with s3_server() as server, tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        for name, value in {**server.environment(), "TMPDIR": temporary}.items():
            monkeypatch.setenv(name, value)
        system = fsspec.filesystem("s3", client_kwargs={"endpoint_url": server.address})
        system.mkdir("photos")
        system.put(f"{tmp_path}/in/", "photos/in/", recursive=True)
        (tmp_path / "in").rename(tmp_path / "away")  # nothing is read here
        arguments = ["s3://photos/in", "-o", "s3://photos/out", "--ray", "--json"]
        pipe = subprocess.PIPE
        process = [*command, *arguments]
        with (
            server.puts_held() as let_go,  # and so no worker comes to the end of a file
            ended(subprocess.Popen(process, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True)) as running,
        ):
            assert server.putting.wait(PATIENCE_S)
            os.kill(worker_of(server), signal.SIGKILL)
            let_go()
            out, err = running.communicate(timeout=PATIENCE_S)
        assert running.returncode == 0, err
        assert "A worker has ended" in err
        found = {Path(name).name: system.cat_file(name) for name in system.glob("photos/out/*.bmp")}
        assert list(Path(temporary).iterdir()) == []
    assert found == made
    names = [item["output"] for item in json.loads(out)["files"]]
    assert names == [f"s3://photos/out/{seed}.bmp" for seed in range(COUNT)]
    assert "s3cret" not in out + err
