"""Trainings are compared on equal terms: each is the one that ``train`` makes, paired by its seed, and kept."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from drc_deploy.checkpoint import Checkpoint, Parent, load_checkpoint
from drc_deploy.errors import UsageError
from drc_deploy.models.network import ModelSpec
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.experiments import trainings
from drc_deploy.train.experiments.paper_tables import PAPER_TABLES, find_table
from drc_deploy.train.experiments.training_tables import training_table
from drc_deploy.train.experiments.trainings import (
    Training,
    TrainingComparison,
    TrainingInputs,
    all_trainings,
    begin,
)
from drc_deploy.train.loop import dual_fit
from drc_deploy.train.loop.benchmark_psnr import Benchmark
from drc_deploy.train.loop.run_folder import RunFolder
from drc_deploy.train.loop.trainer import Trainer
from drc_deploy.train.loop.training import fresh_start, network_duals, start_from_checkpoint, train
from drc_deploy.train.manifest import described
from tests.train.interruption import interrupt_after
from tests.train.runs import OPTIONS, SPEC, assert_same_weights

SEEDS = [1, 2]


@pytest.fixture
def inputs(photographs: Photographs, benchmarks: list[Benchmark]) -> TrainingInputs:
    return TrainingInputs(SPEC, photographs, benchmarks)


def cells_of(name: str, rows: Sequence[str] = (), values: Sequence[float] = (0.1,), **how: Any) -> list[Training]:
    how = {"own": "progressive", "seeds": SEEDS, **how}
    return list(all_trainings(find_table(name).choose_rows(rows), values, **how))


def timeless(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**cell, "seconds": None} for cell in cells]


def test_rows_of_every_table_are_those_of_the_paper() -> None:
    def rows(name: str, **how: Any) -> list[tuple[str, float]]:
        return [(cell.dual, cell.dual_weight) for cell in cells_of(name, seeds=[1], **how)]

    assert rows("table5") == [("none", 0), ("progressive", 0.1)]
    assert rows("table5", own="single", values=(0.2,)) == [("none", 0), ("single", 0.2)]
    assert rows("table7") == [("none", 0), ("single", 0.1), ("progressive", 0.1), ("wide", 0.1)]
    assert rows("table7", rows=["wide", "none"]) == [("none", 0), ("wide", 0.1)]
    assert rows("table8") == [("progressive", 0.1), ("hr-cycle", 0.1)]
    lambdas = rows("lambda", values=find_table("lambda").values)
    assert lambdas == [("none", 0), *(("progressive", weight) for weight in (0.001, 0.01, 0.1, 1, 10))]
    assert rows("lambda", values=(1, 1.0, 0, 1)) == [("progressive", 1), ("none", 0)]


def test_every_cell_has_a_file_of_its_own() -> None:
    cells = {cell for table in PAPER_TABLES if table.trains for cell in cells_of(table.name)}
    names = {cell.name for cell in cells}
    assert len(names) == len(cells)
    assert len({cell.name for cell in cells_of("lambda", values=(0.1, 0.10000001, 1, 10, 1e-5), seeds=[1])}) == 5
    assert all("." not in name for name in names)


@pytest.mark.parametrize("dual", ["none", "wide"])
def test_a_row_is_the_training_that_train_makes(inputs: TrainingInputs, tmp_path: Path, dual: str) -> None:
    """Weights bit for bit, from which the figures follow."""
    cells = cells_of("table7", [dual])
    made = keep_results(TrainingComparison(inputs, OPTIONS, tmp_path / "a", restart=False), cells, tmp_path)
    for cell, found in zip(cells, made, strict=True):
        options = replace(OPTIONS, seed=cell.seed, dual=cell.dual)
        alone = tmp_path / f"alone_{cell.seed}.safetensors"
        train(fresh_start(SPEC, options), inputs.photographs, options, alone)
        assert_same_weights(alone, tmp_path / f"{cell.name}.safetensors")
        assert found["psnr_y"] == described(load_checkpoint(alone), inputs.benchmarks, {})["psnr_y"]
    assert made[0]["psnr_y"] != made[1]["psnr_y"]
    assert not list((tmp_path / "a" / "work").rglob("*.safetensors"))


def keep_results(comparison: TrainingComparison, cells: Sequence[Training], folder: Path) -> list[dict[str, Any]]:
    """Run a comparison and copy each result, which it deletes, to ``folder``."""
    with pytest.MonkeyPatch.context() as patch:

        def copied(path: Path) -> Checkpoint:
            (folder / path.name).write_bytes(path.read_bytes())
            return load_checkpoint(path)

        patch.setattr("drc_deploy.train.experiments.trainings.load_checkpoint", copied)
        return comparison.run(cells)[1:]


def test_rows_of_a_seed_start_from_the_same_weights(plain_parent: Parent, parent: Parent) -> None:
    for start in (SPEC, parent):
        networks = [begin(start, cell.options(OPTIONS)).network for cell in cells_of("table7", seeds=[3])]
        for network in networks[1:]:
            for name, tensor in networks[0].state_dict().items():
                assert torch.equal(tensor, network.state_dict()[name]), name


def test_psnr_on_the_way_is_that_of_a_run_that_ends_there(inputs: TrainingInputs, tmp_path: Path) -> None:
    options = replace(OPTIONS, schedule="constant", warm_up=1, ema=0.9)
    cells = cells_of("table5", seeds=[1])
    whole = TrainingComparison(replace(inputs, at=(4, 2, 6)), options, tmp_path / "a", restart=False).run(cells)[1:]
    assert [list(cell["at"]) for cell in whole] == [["2", "4"]] * 2
    for step in (2, 4):
        short = TrainingComparison(inputs, replace(options, steps=step), tmp_path / str(step), restart=False)
        for cell, ended in zip(whole, short.run(cells)[1:], strict=True):
            assert cell["at"][str(step)] == {name: ended[name] for name in ("psnr_y", "ssim_y")}
            assert ended["psnr_y"] != cell["psnr_y"]


@pytest.mark.parametrize(
    ("cls", "method", "calls"), [(Trainer, "update", 5), (Trainer, "update", 9), (RunFolder, "keep_at", 0)]
)
def test_a_stopped_comparison_ends_as_one_that_was_not(
    inputs: TrainingInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cls: type, method: str, calls: int
) -> None:
    inputs, cells = replace(inputs, at=(4,)), cells_of("table5", seeds=[1])
    options = replace(OPTIONS, ema=0.9)
    straight = TrainingComparison(inputs, options, tmp_path / "a", restart=False).run(cells)
    with monkeypatch.context() as patch:
        interrupt_after(patch, cls, method, calls)
        with pytest.raises(KeyboardInterrupt):
            TrainingComparison(inputs, options, tmp_path / "b", restart=False).run(cells)
    assert list((tmp_path / "b" / "work").rglob("state.safetensors"))
    resumed = TrainingComparison(inputs, options, tmp_path / "b", restart=False).run(cells)
    assert timeless(resumed[1:]) == timeless(straight[1:])


def test_a_training_that_has_ended_is_not_run_again_for_its_measurement(
    inputs: TrainingInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, cells = replace(inputs, at=(4,)), cells_of("table5", seeds=[1])[:1]
    straight = TrainingComparison(inputs, OPTIONS, tmp_path / "a", restart=False).run(cells)
    with monkeypatch.context() as patch:
        interrupt_after(patch, trainings, "quality_of", 0)
        with pytest.raises(KeyboardInterrupt):
            TrainingComparison(inputs, OPTIONS, tmp_path / "b", restart=False).run(cells)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", None)
        resumed = TrainingComparison(inputs, OPTIONS, tmp_path / "b", restart=False).run(cells)
    assert timeless(resumed[1:]) == timeless(straight[1:])


def test_tables_of_one_folder_share_their_trainings(
    inputs: TrainingInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = TrainingComparison(inputs, OPTIONS, tmp_path / "a", restart=False).run(cells_of("table7", seeds=[1]))
    monkeypatch.setattr(Trainer, "update", None)
    again = TrainingComparison(inputs, OPTIONS, tmp_path / "a", restart=False).run(
        cells_of("lambda", values=(0, 0.1), seeds=[1])
    )
    assert [cell["dual"] for cell in again[1:]] == ["none", "progressive"]
    assert again[1:] == [first[1], first[3]]


@pytest.mark.parametrize("change", [{"steps": 7}, {"ema": 0.5}])
def test_other_options_are_refused(inputs: TrainingInputs, tmp_path: Path, change: dict[str, Any]) -> None:
    TrainingComparison(inputs, OPTIONS, tmp_path / "a", restart=False).run(cells_of("table5", seeds=[1])[:1])
    for other, options in (
        (inputs, replace(OPTIONS, **change)),
        (replace(inputs, fit_duals=True), OPTIONS),
        (replace(inputs, at=(2,)), OPTIONS),
        (replace(inputs, start=ModelSpec("drn_s", 4)), OPTIONS),
    ):
        with pytest.raises(UsageError, match="other options"):
            TrainingComparison(other, options, tmp_path / "a", restart=False)
    TrainingComparison(inputs, replace(OPTIONS, seed=5, dual="wide"), tmp_path / "a", restart=False)  # of the cells


def test_an_update_beyond_the_last_is_refused(inputs: TrainingInputs, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="update 7 is beyond the last, 6"):
        TrainingComparison(replace(inputs, at=(2, 7)), OPTIONS, tmp_path / "a", restart=False)


def test_fitted_duals_map_photographs_back_when_the_training_begins(
    inputs: TrainingInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dual part of the loss is small at once; that of random duals is not. Nothing is fitted for no duals."""
    monkeypatch.setattr(dual_fit, "STEPS", 150)
    losses: dict[bool, dict[str, float]] = {}
    for fitted in (False, True):
        comparison = TrainingComparison(
            replace(inputs, fit_duals=fitted), replace(OPTIONS, steps=1), tmp_path / str(fitted), restart=False
        )
        losses[fitted] = {cell["dual"]: cell["loss"] for cell in comparison.run(cells_of("table5", seeds=[1]))[1:]}
    assert losses[True]["none"] == losses[False]["none"]
    assert losses[True]["progressive"] < losses[False]["progressive"]


def test_a_checkpoint_is_trained_as_by_finetune(inputs: TrainingInputs, parent: Parent, tmp_path: Path) -> None:
    """It has progressive duals, which go on; wide ones are new and are fitted."""
    inputs = replace(inputs, start=parent)
    cells = cells_of("table7", ["progressive", "wide"], seeds=[1])
    comparison = TrainingComparison(inputs, OPTIONS, tmp_path / "a", restart=False)
    before, *made = [comparison.run([])[0], *keep_results(comparison, cells, tmp_path)]
    for cell, found in zip(cells, made, strict=True):
        options = cell.options(OPTIONS)
        alone = tmp_path / f"alone_{cell.dual}.safetensors"
        train(start_from_checkpoint(parent, options), inputs.photographs, options, alone)
        assert_same_weights(alone, tmp_path / f"{cell.name}.safetensors")
        assert found["psnr_y"] != before["psnr_y"]
    text = training_table([before, *made], OPTIONS, find_table("table7"), fitted=False, photographs="crops")
    assert "| before training | 0 |  |  | " in text
    assert "The checkpoint's progressive duals went on" in text


def test_a_table_holds_rows_for_every_update_and_what_was_equal() -> None:
    def cell(dual: str, seed: int, early: float, late: float) -> dict[str, Any]:
        figures = [{"psnr_y": {"Set5": psnr}, "ssim_y": {"Set5": 0.8}} for psnr in (early, late)]
        names = {"dual": dual, "dual_weight": 0.0 if dual == "none" else 0.1, "seed": seed}
        return {**names, "seconds": {"train": 12.0}, "at": {"2": figures[0]}, **figures[1]}

    before = {"start": {"model": "drn_xs", "scale": 4}, "params": 1234, "multiply_adds": 5_000_000_000, "psnr_y": {}}
    rows = [cell("none", 1, 20.0, 30.0), cell("progressive", 1, 20.5, 30.0), cell("none", 2, 21.0, 31.0)]
    rows.append(cell("progressive", 2, 21.5, 31.2))
    text = training_table([before, *rows], OPTIONS, find_table("table5"), fitted=True, photographs="9 photographs")
    assert "| without duals | 2 | 2 | 2000.0 | 20.500 ± 0.707 / 0.8000 |" in text
    assert "| progressive duals | 6 | 2 | 2000.0 | 30.600 ± 0.849 / 0.8000 |" in text
    assert "| progressive duals | 2 | +0.500 ± 0.000 (+0.500 to +0.500) |" in text
    assert "| progressive duals | 6 | +0.100 ± 0.141 (-1.171 to +1.371) |" in text
    equal = ["1,234 parameters", "9 photographs", "6 updates with 2 patches of 8x8", "Lambda is 0.1", "as Table 5"]
    for words in (*equal, "middle of the schedule", "were fitted before the first update", "Seeds: 1, 2."):
        assert words in text


def test_a_network_has_duals_of_its_own_kind(parent: Parent) -> None:
    assert network_duals(SPEC) == "progressive"
    assert network_duals(ModelSpec("swinir_light", 4)) == "single"
    assert network_duals(replace(parent, info=replace(parent.info, dual_design="wide"))) == "wide"
