"""Images from pipes that have no end."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from drc_deploy.engine_info import METADATA_KEY
from tests.runtime.networks import write_nearest


def set_metadata(path: Path, **changes: object) -> None:
    model = onnx.load(path)
    (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    entry.value = json.dumps(json.loads(entry.value) | changes)
    onnx.save(model, path)


@pytest.mark.parametrize("source", ["-", "/dev/stdin"])
def test_a_pipe_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path, source: str) -> None:
    write_nearest(tmp_path / "n.onnx")
    set_metadata(tmp_path / "n.onnx", cpu_bytes_per_pixel=100)  # its memory is planned
    command = [sys.executable, "-m", "drc_deploy", "upscale", source, "-o", "out.png", "--engine", "n.onnx"]
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        try:
            done = subprocess.run(
                [*command, "--max-memory", "500MB"],
                cwd=tmp_path,
                stdin=endless.stdout,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        finally:
            endless.kill()
    assert done.returncode == 1
    assert "Error: reading " in done.stderr
    assert not (tmp_path / "out.png").exists()
