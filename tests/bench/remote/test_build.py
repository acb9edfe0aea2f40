"""Equal versions of a checkout need not be equal programs."""

import shutil
from pathlib import Path

import pytest

from tests.bench.remote.remote_hosts import ROOT, shell_host
from tests.bench.remote.test_remote import bench
from tests.runtime.networks import write_nearest


@pytest.mark.parametrize("changed", ["bench/machine/telemetry/rails.py", "models/drn.py", "recipes/drn_s.toml"])
def test_a_changed_file_in_any_folder_is_another_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], changed: str
) -> None:
    write_nearest(tmp_path / "n.onnx")
    host = shell_host(tmp_path / "there")
    monkeypatch.setenv("PATH", host.path)
    copy = host.home / "checkout"
    shutil.copytree(ROOT / "drc_deploy", copy / "drc_deploy", ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "drc_deploy" / changed).open("a") as stream:
        stream.write("\n")
    host.write_python(f"export PYTHONPATH='{copy}'")
    assert bench(host, tmp_path) == 1
    assert "has another drc-deploy" in capfd.readouterr().err
