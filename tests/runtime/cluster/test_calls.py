"""Rows of a comparison on Ray: the cells of one process, though a worker is killed in the middle."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import sample_images
from tests.cli.commands import drc
from tests.cli.test_training_commands import QUICK
from tests.runtime.cluster.processes import when, worker_at

pytest.importorskip("ray")
pytest.importorskip("torch")
pytestmark = pytest.mark.slow


def cells(folder: Path) -> dict[str, dict[str, Any]]:
    found = {path.name: json.loads(path.read_text()) for path in (folder / "cells").iterdir()}
    return {name: {**cell, "seconds": None} for name, cell in found.items()}


def test_trainings_on_ray_are_those_of_one_process_though_a_worker_is_killed(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as many as a worker has there
    hr = Image.fromarray(read_rgb(sample_images()[0])[60:124, 60:124])
    for name, image in (("HR", hr), ("LRx4", hr.resize((16, 16), Image.Resampling.BICUBIC))):
        (tmp_path / "Set1" / name).mkdir(parents=True)
        image.save(tmp_path / "Set1" / name / "a.png")
    command = ["ablate", "table5", "--model", "drn_xs", "--eval", "Set1", "--seeds", 2, *QUICK, "--steps", 6]
    alone = drc(*command, "-o", "alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    killed: list[int] = []

    def kill() -> None:
        if process := worker_at(str(tmp_path), b"ray::_called"):
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    killing = when(lambda: list((tmp_path / "shared").glob("work/*")), kill)
    shared = drc(*command, "-o", "shared", "--ray", cluster.address, cwd=tmp_path)
    killing.join()
    assert shared.returncode == 0, shared.stderr
    assert killed
    assert cells(tmp_path / "shared") == cells(tmp_path / "alone")
    assert len(cells(tmp_path / "shared")) == 4
    assert not list((tmp_path / "shared" / "work").iterdir())
    assert "| progressive duals | 6 | 2 |" in shared.stdout


def test_what_is_wrong_with_a_row_is_the_sentence_of_one_process(cluster: Any, tmp_path: Path) -> None:
    command = ["ablate", "--model", "drn_xs", "--method", "uniform", "--ratio", 0.5, "--seeds", 1, *QUICK]
    command += ["--finetune-steps", 1, "--prune-batches", 1, "-o", "out"]
    (tmp_path / "out/searches").mkdir(parents=True)
    (tmp_path / "out/ablation.json").write_text("{}")
    (tmp_path / "out/searches/uniform_r50_s1.widths.json").mkdir()
    alone = drc(*command, cwd=tmp_path)
    assert alone.returncode == 1
    shared = drc(*command, "--ray", cluster.address, cwd=tmp_path)
    assert shared.returncode == 1
    assert shared.stderr.splitlines()[-2:] == alone.stderr.splitlines()[-2:]
    assert "Traceback" not in shared.stderr
