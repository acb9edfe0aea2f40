"""Tables of the paper by name, as a user types them."""

from pathlib import Path

import pytest
from PIL import Image

from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import sample_images
from drc_deploy.train.experiments.paper_tables import PAPER_TABLES
from drc_deploy.train.loop import dual_fit
from tests.cli.commands import drc
from tests.cli.test_training_commands import QUICK


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """A set of one pair of photographs, 64x64 and 16x16 pixels."""
    hr = Image.fromarray(read_rgb(sample_images()[0])[60:124, 60:124])
    for name, image in (("HR", hr), ("LRx4", hr.resize((16, 16), Image.Resampling.BICUBIC))):
        (tmp_path / "Set1" / name).mkdir(parents=True)
        image.save(tmp_path / "Set1" / name / "a.png")
    return tmp_path / "Set1"


def test_the_help_lists_every_table(tmp_path: Path) -> None:
    shown = drc("ablate", "--help", cwd=tmp_path).stdout
    for table in PAPER_TABLES:
        assert f"  {table.name:6}  {table.summary}\n" in shown


def test_trainings_are_compared_and_kept(tmp_path: Path, benchmark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual_fit, "STEPS", 5)
    command = ["--model", "drn_xs", "--eval", benchmark, "--seeds", 2, *QUICK]
    command += ["--steps", 4, "--at", 2, 3, "--fit-duals"]
    made = drc("ablate", "table5", *command, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "drn_xs: a new network for each seed" in made.stderr
    folder = tmp_path / "drc_runs" / "drn_xs.trainings"
    assert (folder / "table5.md").read_text() in made.stdout
    rows = [line.split(" | ")[:3] for line in made.stdout.splitlines() if line.startswith(("| with", "| prog"))][:6]
    assert rows == [[f"| {name}", step, "2"] for step in "234" for name in ("without duals", "progressive duals")]
    written = {path: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    again = drc("ablate", "lambda", *command, "--values", 0, 0.1, 1, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "| lambda 1 | 4 | 2 |" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert (folder / "table5.md").exists()
    refused = drc("ablate", "table5", *command, "--ema", 0.5, cwd=tmp_path)
    assert refused.returncode == 2
    assert "other options" in refused.stderr


def test_a_table_of_prunings_has_its_rows_and_ratio(tmp_path: Path) -> None:
    steps = ["--search-steps", 1, "--prune-batches", 1, "--channels-per-step", 32, "--finetune-steps", 1, *QUICK]
    rows = ["--method", "drc", "--values", 0, 2]
    made = drc("ablate", "gamma", "--model", "drn_xs", "--seeds", 1, *rows, *steps, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert [line[-15:] for line in made.stdout.splitlines() if line.startswith("###")] == [" DRC, ratio 0.3"]
    assert "| gamma 0 | 1 | 1 |" in made.stdout
    assert "| gamma 2 | 1 | 1 |" in made.stdout
    assert (tmp_path / "drc_runs" / "drn_xs.ablation" / "gamma.md").read_text() in made.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", 5], "--steps is no option of `drc-deploy ablate`"),
        (["--values", 5], "It belongs to lambda, gamma."),
        (["table9"], "'table9' is not one of"),
        (["table5", "--ratio", 0.5], "--ratio is no option of `drc-deploy ablate table5`"),
        (["table5", "--target", "channels"], "table2, table4, table6, gamma, `ablate` without a name."),
        (["table5", "--method", "none"], "--method is no option"),
        (["table5", "--values", 1], "--values is no option"),
        (["table2", "--steps", 5], "It belongs to table5, table7, table8, lambda."),
        (["table2", "--at", 301], "update 301 is beyond the last, 300"),
        (["table5", "--at", 0, "--eval", "Set1"], "before the first update all trainings of a seed are the same"),
        (["table2", "--method", "random"], "table2 has no row 'random'"),
        (["table7", "--method", "drc", "--eval", "Set1"], "Choose from none, single, progressive, wide."),
        (["lambda", "--dual-weight", 1], "--dual-weight is no option"),
        (["gamma", "--gamma", 1], "--gamma is no option"),
        (["gamma", "--values", -1], "gamma must be a finite number"),
        (["table5", "--seeds", 1], "no set to measure it on"),
        (["lambda", "--values", -1, "--eval", "Set1"], "dual_weight must be a finite number"),
        (["table5", "--dual-weight", 0, "--eval", "Set1"], "would learn nothing"),
        (["table5", "--steps", 5, "--at", 3, 6, "--eval", "Set1"], "update 6 is beyond the last, 5"),
        (["table5", "--seed", 2**63 - 2, "--eval", "Set1"], "cannot be a seed"),
        (["table5", "--model", "drn_xs_r50", "--scale", 4, "--eval", "Set1"], "a checkpoint has its own"),
        (["table5", "--scale", 3, "--eval", "Set1"], "drn_xs has no scale 3"),
        (["table7", "--model", "swinir_light", "--eval", "Set1"], "has one dual"),
        (["table5", "--model", "swinir_light", "--patch", 9, "--eval", "Set1"], "takes no patches of 9x9"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(
    tmp_path: Path, benchmark: Path, arguments: list[object], words: str
) -> None:
    model = [] if "--model" in arguments else ["--model", "drn_xs"]
    refused = drc("ablate", *arguments, *model, cwd=tmp_path)
    assert refused.returncode == 2
    assert words in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == [benchmark.name]
