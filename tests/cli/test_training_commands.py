"""The commands of the training stage, as a user types them."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from drc_deploy.checkpoint_info import read_checkpoint_info
from drc_deploy.locate import SHIPPED, find_checkpoint, shipped_names
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from tests.cli.commands import drc
from tests.models.published import WIDTHS

QUICK = ["--batch", "2", "--patch", "8"]


def test_the_whole_stage_from_train_to_finetune(tmp_path: Path) -> None:
    steps = [
        ["train", "--model", "drn_xs", "--steps", 2],
        ["search", "drn_xs", "--steps", 2],
        ["prune", "drn_xs", "--widths", "drc_runs/drn_xs_r30.widths.json", "--batches", 1, "--channels-per-step", 16],
        ["finetune", "drn_xs_r30_pruned", "--steps", 2],
    ]
    for step in steps:
        result = drc(*step, *QUICK, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "Next: drc-deploy" in result.stdout
    full, small = (
        read_checkpoint_info(tmp_path / "drc_runs" / f"{n}.safetensors") for n in ("drn_xs", "drn_xs_r30_finetuned")
    )
    assert small.params < full.params
    assert small.provenance["stage"] == "finetune"
    assert small.provenance["before"]["stage"] == "prune"


def test_compress_goes_on_with_the_kind_of_duals_that_the_network_has(tmp_path: Path) -> None:
    assert drc("train", "--model", "drn_xs", "--steps", 1, "--dual", "wide", *QUICK, cwd=tmp_path).returncode == 0
    result = drc(
        "compress", "--model", "drn_xs", "--search-steps", 1, "--prune-batches", 1, "--channels-per-step", 32,
        "--finetune-steps", 1, *QUICK, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert read_checkpoint_info(tmp_path / "drc_runs" / "drn_xs_r30.safetensors").dual_design == "wide"


def test_a_run_repeats_with_the_duals_that_the_network_had_by_itself(tmp_path: Path) -> None:
    for step in (
        ["train", "--model", "drn_es", "--steps", 1, *QUICK],
        ["finetune", "drn_es", "--steps", 1, "-o", "one.safetensors", *QUICK],
        ["finetune", "drn_es", "--config", "one.run/config.toml", "-o", "two.safetensors"],
    ):
        result = drc(*step, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    one, two = (read_checkpoint_info(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert one.provenance["dual"] == two.provenance["dual"] == "single"


def test_compress_without_a_checkpoint_says_how_to_get_one(tmp_path: Path) -> None:
    result = drc("compress", "--model", "drn_l", cwd=tmp_path)
    assert result.returncode == 1
    assert "drc-deploy train --model drn_l" in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "--model", "drn_q", "--steps", "1"], 2, "no model 'drn_q'"),
        (["train", "--model", "drn_s", "--scale", "3"], 2, "no scale 3"),
        (["train", "--model", "drn_xs", "--steps", "0"], 2, "steps must be at least 1"),
        (["train", "--model", "drn_xs", "--steps", "5", "--minutes", "1"], 2, "either steps or minutes"),
        (["finetune", "drn_xs", "--minutes", "nan"], 2, "minutes must be above 0"),
        (["train", "--model", "drn_xs", "--data", "missing"], 2, "does not exist"),
        (["search", "missing"], 1, "no file 'missing'"),
        (["compress", "--model", "drn_xs", "--ratio", "1.5"], 2, "not between 0 and 1"),
        (["import", "missing.pt", "--model", "drn_s"], 1, "does not exist"),
        (["train", "--model", "drn_xs", "-o", "net.pt"], 2, "must end in .safetensors"),
        (["search", "drn_xs", "-o", "widths.txt"], 2, "must end in .widths.json"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_wrong_usage_is_one_sentence_and_an_exit_code(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    result = drc(*arguments, cwd=tmp_path)
    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [("train", "--model", "drn_xs", "--init"), ("finetune",)])
def test_weights_in_the_folder_that_the_run_clears_are_refused(tmp_path: Path, command: tuple[str, ...]) -> None:
    best = tmp_path / "net.run" / "best.safetensors"
    best.parent.mkdir()
    shutil.copy(find_checkpoint("drn_xs", tmp_path), best)
    result = drc(*command, "net.run/best.safetensors", "-o", "net.safetensors", cwd=tmp_path)
    assert result.returncode == 2
    assert "which a new run clears" in result.stderr
    assert best.exists()


def test_import_converts_official_weights(tmp_path: Path) -> None:
    torch.save(build_network(ModelSpec("drn_s", 8, WIDTHS[8, 70])).state_dict(), tmp_path / "DRNS8x.pt")
    result = drc("import", "DRNS8x.pt", "--model", "drn_s", "--scale", 8, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert read_checkpoint_info(tmp_path / "drc_runs" / "DRNS8x.safetensors").widths == WIDTHS[8, 70]


def test_models_lists_every_model_and_a_pruned_one(tmp_path: Path) -> None:
    rows = json.loads(drc("models", "--json", cwd=tmp_path).stdout)["models"]
    sizes = {(row["model"], row["scale"]): row["params"] for row in rows}
    assert sizes["drn_s", 4] == 4_804_065
    assert sizes["drn_l", 8] == 10_004_018
    (tmp_path / "w.txt").write_text("\n".join(map(str, WIDTHS[4, 50])))
    pruned = drc("models", "--model", "drn_s", "--widths", "w.txt", "--json", cwd=tmp_path)
    assert json.loads(pruned.stdout)["models"][0]["params"] == 2_267_417
    assert json.loads(pruned.stdout)["shipped"] == []


def test_models_lists_the_networks_that_ship_with_their_quality_and_size(tmp_path: Path) -> None:
    shipped = {row["name"]: row for row in json.loads(drc("models", "--json", cwd=tmp_path).stdout)["shipped"]}
    assert sorted(shipped) == shipped_names()
    small = shipped["drn_xs_r50"]
    assert small["set5_psnr_y"] == pytest.approx(31.32, abs=0.005)  # as docs/results.md has it
    assert small["bytes"] == (SHIPPED / "drn_xs_r50.safetensors").stat().st_size
    lines = drc("models", "--model", "drn_s", "--scale", 4, cwd=tmp_path).stdout.splitlines()
    assert ["drn_s", "x4", "4,804,065", "31.94", "dB", "9.7", "MB"] in [line.split() for line in lines]
    assert not any("drn_xs" in line for line in lines)


def test_a_full_disk_leaves_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = drc("train", "--model", "drn_xs", "--steps", 1, *QUICK, "-o", "file/net.safetensors", cwd=tmp_path)
    assert result.returncode == 1
    assert "cannot write" in result.stderr
    assert (tmp_path / "file").is_file()


def test_a_degradation_goes_through_all_stages(tmp_path: Path) -> None:
    """Its file is read again by a repeated run, and another one is other data."""
    (tmp_path / "soft.toml").write_text("sigma = [1, 3]\nkernel_size = 15\n")
    small = ["--search-steps", 1, "--prune-batches", 1, "--channels-per-step", 32, "--finetune-steps", 1, *QUICK]
    for step in (
        ["train", "--model", "drn_xs", "--steps", 1, "--degradation", "soft.toml", "-o", "soft.safetensors", *QUICK],
        ["train", "--config", "soft.run/config.toml", "-o", "again.safetensors"],
        ["train", "--model", "drn_xs", "--steps", 1, "-o", "plain.safetensors", *QUICK],
        ["train", "--model", "drn_xs", "--steps", 1, "--degradation", "dcls", "-o", "dcls.safetensors", *QUICK],
        ["train", "--config", "dcls.run/config.toml", "-o", "dcls2.safetensors"],
        ["finetune", "dcls.safetensors", "--steps", 1, "-o", "tuned.safetensors", *QUICK],
        ["compress", "--model", "dcls.safetensors", *small],
        ["finetune", "dcls.safetensors", "--steps", 1, "--degradation", "bicubic", "-o", "sharp.safetensors", *QUICK],
    ):
        result = drc(*step, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        inherits = "--degradation" not in step and step[0] in ("finetune", "compress")
        assert ("as the network was trained" in result.stderr) == inherits
    data = {name: read_checkpoint_info(tmp_path / f"{name}.safetensors").provenance["data"] for name in
            ("soft", "again", "plain", "dcls", "dcls2", "tuned", "drc_runs/dcls_r30", "sharp")}  # fmt: skip
    assert data["soft"] == data["again"]
    assert data["dcls"] == data["dcls2"] == data["tuned"] == data["drc_runs/dcls_r30"]
    assert data["plain"] == data["sharp"]
    assert (data["soft"]["degradation"]["sigma"], data["dcls"]["degradation"]["kernel_size"]) == ([1, 3], 31)
    assert "degradation" not in data["plain"]
    refused = drc("train", "--model", "drn_xs", "--degradation", "dcls", "--scale", 8, *QUICK, cwd=tmp_path)
    assert (refused.returncode, "published for x2, x4" in refused.stderr) == (2, True)
