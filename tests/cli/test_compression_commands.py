"""Search, pruning, compression and comparison, as a user types them."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from drc_deploy.checkpoint import Checkpoint, save_checkpoint
from drc_deploy.checkpoint_info import read_checkpoint_info
from drc_deploy.files import sha256_of
from drc_deploy.latency_table import read_latency_table, write_latency_table
from drc_deploy.locate import find_checkpoint
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.widths import read_widths_file
from tests.cli.commands import drc
from tests.cli.test_training_commands import QUICK

STEPS = ["--search-steps", 1, "--prune-batches", 1, "--channels-per-step", 32, "--finetune-steps", 1, *QUICK]


def test_a_family_is_made_in_one_go(tmp_path: Path) -> None:
    command = ["compress", "--model", "drn_xs", "--ratio", 0.3, 0.5, *STEPS, "--target", "madds"]
    result = drc(*command, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    manifests = json.loads(result.stdout)["networks"]
    assert [m["checkpoint"] for m in manifests] == [
        "drc_runs/drn_xs_r30.safetensors",
        "drc_runs/drn_xs_r50.safetensors",
    ]
    for ratio, manifest in zip((0.3, 0.5), manifests, strict=True):
        assert [stage["stage"] for stage in manifest["stages"]] == ["search", "prune", "finetune"]
        before, after = manifest["before"], manifest["stages"][-1]["after"]
        assert after["multiply_adds"] <= (1 - ratio) * before["multiply_adds"]
    (tmp_path / "ordinary").touch()
    modes = {path.stat().st_mode for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "ordinary").stat().st_mode}
    stages = [line for line in result.stderr.splitlines() if re.match(r"drn_xs_r\d+: ", line)]
    assert sorted(stages) == sorted(
        f"drn_xs_r{number}: {stage}" for number in (30, 50) for stage in ("search", "prune", "finetune")
    )
    shown = drc(*command, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "Asked: at most" in shown.stdout
    assert "Kept drc_runs/drn_xs_r30.safetensors" in shown.stdout
    assert "Wrote" not in shown.stdout
    assert shown.stderr.count(" was done before\n") == len(stages)
    assert "Next: drc-deploy export drc_runs/drn_xs_r30.safetensors" in shown.stdout


def slow_machine(folder: Path) -> Path:
    """Make a latency table of this machine as if it were slow enough for its overhead not to matter."""
    path = folder / "drn_xs.latency.json"
    assert drc("latency", "drn_xs", "--size", "16x16", "-o", path, cwd=folder).returncode == 0
    measured = read_latency_table(path, model="drn_xs", scale=4)
    points = tuple(((0, 0.0), (times[-1][0], 32.0)) for times in measured.points)
    write_latency_table(path, dataclasses.replace(measured, points=points, fixed_ms=1.0))
    return path


def test_a_bound_on_latency_counts_in_a_table(tmp_path: Path) -> None:
    table = slow_machine(tmp_path)
    bound = ["--target", "latency", "--latency-table", table]
    result = drc("search", "drn_xs", "--steps", 1, *QUICK, *bound, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert " ms (30 % less than" in result.stdout
    assert "Timed now: " in result.stdout
    found = read_widths_file(tmp_path / "drc_runs" / "drn_xs_r30.widths.json")
    assert found.reached is not None
    assert found.asked is not None
    assert found.reached <= found.asked
    assert (tmp_path / "drc_runs" / "drn_xs_r30.widths.png").stat().st_size > 1000

    made = drc("compress", "--model", "drn_xs", *STEPS, *bound, "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    (manifest,) = json.loads(made.stdout)["networks"]
    assert manifest["timed_ms"]["reached"] > 0
    assert manifest["timed_ms"]["unpruned"] > 0


@pytest.mark.parametrize("here", [True, False])
def test_what_was_found_is_timed_where_the_table_was_made(tmp_path: Path, here: bool) -> None:
    table = slow_machine(tmp_path)
    if not here:
        measured = read_latency_table(table, model="drn_xs", scale=4)
        write_latency_table(table, dataclasses.replace(measured, device="another machine"))
    bound = ["--target", "latency", "--latency-table", table]
    result = drc("search", "drn_xs", "--method", "uniform", *QUICK, *bound, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    timed = json.loads(result.stdout)["timed_ms"]
    assert (timed is not None) == here
    assert not here or min(timed["unpruned"], timed["reached"]) > 0


def test_a_comparison_prints_its_tables(tmp_path: Path) -> None:
    steps = ["--search-steps", 1, "--prune-batches", 1, "--channels-per-step", 32, "--finetune-steps", 1, *QUICK]
    result = drc(
        "ablate", "--model", "drn_xs", "--ratio", 0.5, "--seeds", 1, "--method", "uniform", "cp", *steps, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "| DRC's pruning, uniform widths | 1 | 1 |" in result.stdout
    assert "| CP, uniform widths | 1 | 1 |" in result.stdout
    assert (tmp_path / "drc_runs" / "drn_xs.ablation" / "tables.md").read_text() in result.stdout


def test_a_pruning_method_is_an_option(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("4\n8\n" + "16\n" * 10)
    result = drc("prune", "drn_xs", "--widths", "w.txt", "--method", "thinet", "--batches", 1, *QUICK, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    made = read_checkpoint_info(next((tmp_path / "drc_runs").glob("*.safetensors")))
    assert made.widths == (4, 8, *(16,) * 10)
    assert made.provenance["options"]["method"] == "thinet"


def test_a_teacher_is_an_option_of_fine_tuning(tmp_path: Path) -> None:
    result = drc("finetune", "drn_xs_r30", "--teacher", "drn_xs", "--steps", 2, *QUICK, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    teacher = read_checkpoint_info(next((tmp_path / "drc_runs").glob("*.safetensors"))).provenance["teacher"]
    assert teacher["sha256"] == sha256_of(find_checkpoint("drn_xs", tmp_path))
    assert teacher["weight"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compress", "--model", "drn_xs", "--ratio", 0.3, 1.5], "1.5 is not between 0 and 1"),
        (["compress", "--model", "drn_xs", "--ratio", 0.3, 0.5, "-o", "x.safetensors"], "several ratios make several"),
        (["compress", "--model", "drn_xs", "--ratio", 0.999, "--target", "params"], "nearest that can be reached"),
        (["search", "drn_xs", "--target", "latency"], "go together"),
        (["ablate", "--model", "drn_xs", "--method", "magic"], "no method 'magic'"),
        (["finetune", "drn_xs_r30", "--distillation-weight", 2], "needs --teacher"),
        (["latency", "drn_xs", "--size", "16"], "such as 128x128"),
        (["latency", "drn_q"], "no model 'drn_q'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, arguments: list[object], words: str) -> None:
    result = drc(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(("typed", "used"), [((), "bf16"), (("--precision", "fp32"), "fp32")])
def test_a_budget_brings_its_precision_unless_one_is_typed(tmp_path: Path, typed: tuple[str, ...], used: str) -> None:
    budget = ["--budget", "30min", "--patch", 8, *STEPS, *typed]
    made = drc("compress", "--model", "drn_xs", *budget, "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    (manifest,) = json.loads(made.stdout)["networks"]
    assert manifest["stages"][-1]["options"]["precision"] == used


def test_fine_tuning_lasts_minutes_where_they_are_typed(tmp_path: Path) -> None:
    steps = ["--search-steps", 1, "--prune-batches", 1, "--channels-per-step", 32, *QUICK]
    made = drc("compress", "--model", "drn_xs", *steps, "--finetune-minutes", 0.001, "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    provenance = read_checkpoint_info(tmp_path / "drc_runs" / "drn_xs_r30.safetensors").provenance
    assert provenance["minutes"] == 0.001
    assert provenance["steps"] >= 1
    assert provenance["seconds"] >= 0.06 - 0.05  # as it is rounded


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (("compress", *STEPS, "--model"), "net.safetensors"),
        (("compress", *STEPS, "--model"), "net.stages/net_pruned.safetensors"),
        (("compress", *STEPS, "--model", "drn_xs", "--teacher"), "net.safetensors"),
        (("finetune", "--steps", 1, *QUICK), "net.safetensors"),
        (("finetune", "drn_xs", "--steps", 1, *QUICK, "--teacher"), "net.safetensors"),
        (("prune", *QUICK, "--widths", "w.txt"), "net.safetensors"),
    ],
)
def test_a_result_never_replaces_what_it_is_made_from(tmp_path: Path, command: tuple[str, ...], result: str) -> None:
    """Typed again after a kill, the command would start from its own result."""
    weights = tmp_path / result
    weights.parent.mkdir(exist_ok=True)
    shutil.copy(find_checkpoint("drn_xs", tmp_path), weights)
    (tmp_path / "w.txt").write_text("4\n" * 12)
    before = sha256_of(weights)
    refused = drc(*command, result, "-o", "net.safetensors", cwd=tmp_path)
    assert refused.returncode == 2
    assert "would replace the checkpoint that it is made from" in refused.stderr
    assert sha256_of(weights) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compress", "--model", "drn_xs", "--ratio", 1.5], "not between 0 and 1"),
        (["compress", "--model", "drn_xs", "--ratio", "nan"], "not between 0 and 1"),
        (["compress", "--model", "drn_xs", "--finetune-steps", 0], "steps must be at least 1"),
        (["compress", "--model", "drn_xs", "--finetune-steps", 1, "--finetune-minutes", 1], "either steps or minutes"),
        (["compress", "--model", "drn_xs", "--prune-batches", -1], "batches must be at least 1"),
        (["search", "drn_xs", "--ratio", 0], "not between 0 and 1"),
        (["search", "drn_xs", "--seed", -1], "cannot be a seed"),
        (["ablate", "--model", "drn_xs", "--ratio", 0.3, 1], "not between 0 and 1"),
        (["ablate", "--model", "drn_xs", "--finetune-steps", 0], "steps must be at least 1"),
        (["ablate", "--model", "drn_xs", "--seed", 2**63 - 2], "cannot be a seed"),
        (["prune", "drn_xs", "--widths", "w.txt", "--batches", 0], "batches must be at least 1"),
        (["finetune", "drn_xs", "--steps", 0], "steps must be at least 1"),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_anything_is_read(
    tmp_path: Path, arguments: list[object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drc_deploy.checkpoint.Parent.read", unread)
    monkeypatch.setattr("drc_deploy.train.data.folders.open_photographs", unread)
    (tmp_path / "w.txt").write_text("4\n" * 12)
    refused = drc(*arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert words in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["w.txt"]


def unread(*_arguments: object) -> None:
    raise AssertionError("something was read")


BUDGET = ["--target", "madds"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compress", "--model", "drn_xs_r50", *BUDGET], "nothing needs to be cut: this network has 2,683,212,048"),
        (["compress", "--model", "half.safetensors", "--ratio", 0.4], "172 channels, and a ratio of 0.4 allows 206"),
        (["search", "drn_xs_r50", *BUDGET], "nothing needs to be cut"),
        (["ablate", "--model", "drn_xs_r50", "--ratio", 0.3], "nothing needs to be cut"),
        (["compress", "--model", "drn_xs", "--ratio", 0.3, 0.999, "--target", "params"], "no candidates meet"),
        (["search", "drn_xs", "--ratio", 0.999, *BUDGET], "no candidates meet"),
        (["ablate", "--model", "drn_xs", "--ratio", 0.999, "--method", "uniform", "drc"], "no candidates meet"),
        (["prune", "drn_xs", "--widths", "w.txt"], "has 8 channels and cannot keep 9"),
    ],
)
def test_a_bound_that_cannot_or_need_not_be_met_leaves_nothing(
    tmp_path: Path, arguments: list[object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drc_deploy.train.data.folders.open_photographs", unread)
    half = build_network(ModelSpec("drn_xs", 4, (4, 8, *(16,) * 10)))
    save_checkpoint(tmp_path / "half.safetensors", Checkpoint.of(half))
    (tmp_path / "w.txt").write_text("9\n" * 12)
    refused = drc(*arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert words in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.safetensors", "w.txt"]


def test_a_compression_that_fails_before_its_first_stage_leaves_no_folder(tmp_path: Path, photograph: Path) -> None:
    """Two halves of the data need two photographs."""
    (tmp_path / "one").mkdir()
    shutil.copy(photograph, tmp_path / "one")
    failed = drc("compress", "--model", "drn_xs", *STEPS, "--data", "one", cwd=tmp_path)
    assert failed.returncode == 1
    assert "at least 2 photographs" in failed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_teacher_that_does_not_fit_is_known_before_the_search(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x8.safetensors", Checkpoint.of(build_network(ModelSpec("drn_xs", 8))))
    refused = drc("compress", "--model", "drn_xs", *STEPS, "--teacher", "x8.safetensors", cwd=tmp_path)
    assert refused.returncode == 2
    assert "is for x8" in refused.stderr
    assert not list(tmp_path.rglob("*.widths.json"))


def test_a_table_that_cannot_be_written_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = drc("latency", "drn_xs", "--size", "8x8", "-o", "file/a.latency.json", cwd=tmp_path)
    assert result.returncode == 1
    assert "cannot write" in result.stderr
    assert "Timing" not in result.stderr
    assert drc("latency", "drn_q", cwd=tmp_path).returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["compress", "--model", "drn_xs", "--ratio", 0.3, 0.3000000000001], "have one name"),
        (["search", "drn_xs", "-o", f"{'a' * 240}.widths.json"], "more than 200 bytes"),
        (["search", "drn_xs", "-o", "caf\udce9.widths.json"], "no text in UTF-8"),
    ],
)
def test_names_that_cannot_be_are_refused_before_anything_runs(
    command: list[object], message: str, tmp_path: Path
) -> None:
    result = drc(*command, cwd=tmp_path)
    assert result.returncode == 2
    assert message in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())


def test_widths_of_a_file_with_foreign_layers_are_not_pruned_to(tmp_path: Path) -> None:
    assert drc("search", "drn_xs", "--method", "uniform", *QUICK, cwd=tmp_path).returncode == 0
    path = tmp_path / "drc_runs" / "drn_xs_r30.widths.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "layers": content["layers"][::-1]}))
    result = drc("prune", "drn_xs", "--widths", path, *QUICK, cwd=tmp_path)
    assert result.returncode == 1
    assert "names other layers" in result.stderr
