"""Comparisons hold every method to the same bound, keep what was measured, and add up to the right tables."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drc_deploy.checkpoint import Parent, load_checkpoint
from drc_deploy.errors import ArtefactError, OutputError, UsageError
from drc_deploy.latency_table import LatencyTable
from drc_deploy.locate import find_checkpoint
from drc_deploy.models.network import ModelSpec, multiply_adds
from drc_deploy.models.registry import build_network
from drc_deploy.only_one import only_one
from drc_deploy.train.compress import CompressInputs
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.experiments.ablation import VARIANTS, Ablation, AblationOptions, Cell, all_cells, find_variants
from drc_deploy.train.experiments.ablation_tables import tables
from drc_deploy.train.experiments.paper_tables import find_table
from drc_deploy.train.loop.benchmark_psnr import Benchmark
from drc_deploy.train.loop.trainer import Trainer
from drc_deploy.train.manifest import described
from drc_deploy.train.pruning.prune import prune_file
from tests.train.interruption import interrupt_after

START = {"file": "plain.safetensors", "sha256": "0" * 64, "duals": "progressive"}
SIZE = {"params": 1000, "multiply_adds": 2_000_000_000}
OPTIONS = AblationOptions(
    round_to=2, search_steps=2, prune_batches=1, channels_per_step=16, finetune_steps=2, batch=2, patch=8
)


@pytest.fixture
def inputs(plain_parent: Parent, photographs: Photographs) -> CompressInputs:
    return CompressInputs(plain_parent, photographs)


def test_every_method_meets_the_bound(inputs: CompressInputs, tmp_path: Path) -> None:
    cells, spec = list(all_cells([0.5], [1], VARIANTS)), ModelSpec("plain", 4)
    unpruned, *results = Ablation(inputs, replace(OPTIONS, round_to=1), tmp_path / "a", restart=False).run(cells)
    assert [result["variant"] for result in results] == [variant.name for variant in VARIANTS]
    limit = 0.5 * multiply_adds(build_network(spec))
    for result in results:
        counted = multiply_adds(build_network(replace(spec, widths=tuple(result["widths"]))))
        assert result["multiply_adds"] == counted
        assert counted <= limit, result["variant"]
    assert unpruned["params"] == build_network(spec).parameter_count
    assert not list((tmp_path / "a" / "work").rglob("*.safetensors"))


def test_quality_on_the_way_is_that_of_the_network_there(
    photographs: Photographs, benchmarks: list[Benchmark], tmp_path: Path
) -> None:
    parent = Parent.read(find_checkpoint("drn_xs", tmp_path))
    measured, options = CompressInputs(parent, photographs, benchmarks), replace(OPTIONS, at=(1, 0, 2))
    cells = list(all_cells([0.5], [1], find_variants(["uniform", "uniform-published"])))
    results = Ablation(measured, options, tmp_path / "a", restart=False).run(cells)
    for cell, result in zip(cells, results[1:], strict=True):
        pruned = tmp_path / f"{cell.name}.safetensors"
        prune_file(parent, result["widths"], photographs, options.stages(cell).prune, pruned)
        figures = described(load_checkpoint(pruned), benchmarks, {})
        assert result["at"]["0"] == {kind: figures[kind] for kind in ("psnr_y", "ssim_y")}
        assert list(result["at"]) == ["0", "1"]
        assert len({result["psnr_y"]["Set1"], *(result["at"][step]["psnr_y"]["Set1"] for step in "01")}) == 3
    text = tables(results, options, find_table("table2"))
    rows = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith("| DRC's pruning")][:6]
    assert [step for _, step in rows] == ["0", "0", "1", "1", "2", "2"]
    assert "middle of the schedule" in text
    assert "LR images were made by bicubic reduction." in text
    blurred = tables(results, options, lr_made_by="a degradation (sigma 1 to 2)")
    assert "LR images were made by a degradation (sigma 1 to 2)." in blurred


def test_a_stopped_comparison_goes_on_and_does_no_cell_twice(
    inputs: CompressInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = list(all_cells([0.5], [1, 2], find_variants(["uniform", "dcp"])))
    straight = Ablation(inputs, OPTIONS, tmp_path / "a", restart=False).run(cells)
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 3)  # in the second cell
        with pytest.raises(KeyboardInterrupt):
            Ablation(inputs, OPTIONS, tmp_path / "b", restart=False).run(cells)
    first = next((tmp_path / "b" / "cells").iterdir())
    written = first.stat().st_mtime_ns
    resumed = Ablation(inputs, OPTIONS, tmp_path / "b", restart=False).run(cells)
    assert first.stat().st_mtime_ns == written
    for one, other in zip(straight, resumed, strict=True):
        assert {**one, "seconds": None} == {**other, "seconds": None}


def test_cells_made_elsewhere_are_those_made_here_and_those_of_one_search_go_together(
    inputs: CompressInputs, tmp_path: Path
) -> None:
    def elsewhere(groups: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
        for names in groups:
            other = Ablation(inputs, OPTIONS, tmp_path / "b", restart=False)
            other.make([cell for cell in cells if cell.name in names])
            made.append(names)
            yield names

    made: list[tuple[str, ...]] = []
    cells = list(all_cells([0.5], [1], find_variants(["drc", "uniform", "dcp"])))
    here = Ablation(inputs, OPTIONS, tmp_path / "a", restart=False).run(cells)
    there = Ablation(inputs, OPTIONS, tmp_path / "b", restart=False).run(cells, elsewhere)
    assert [{**cell, "seconds": None} for cell in there] == [{**cell, "seconds": None} for cell in here]
    assert made == [("uniform_r50_s1", "dcp_r50_s1"), ("drc_r50_s1",)]


def test_a_folder_of_other_options_is_refused(inputs: CompressInputs, tmp_path: Path) -> None:
    Ablation(inputs, OPTIONS, tmp_path / "a", restart=False).run(
        list(all_cells([0.5], [1], find_variants(["uniform"])))
    )
    with pytest.raises(UsageError, match="other options"):
        Ablation(inputs, AblationOptions(finetune_steps=3), tmp_path / "a", restart=False)
    Ablation(inputs, AblationOptions(finetune_steps=3), tmp_path / "a", restart=True)


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(UsageError, match="'drcc'"):
        find_variants(["drc", "drcc"])


def test_one_search_serves_cells_that_differ_in_pruning_only() -> None:
    names = {Cell(v, 0.3, 1).search_name for v in find_variants(["uniform", "uniform-published", "cp", "srp"])}
    assert names == {"uniform_r30_s1"}
    assert len({Cell(v, 0.3, 1).search_name for v in find_variants(["drc", "drc-plain", "no-duals"])}) == 2
    assert len({Cell(v, 0.3, 1).search_name for v in find_variants(["drc-published", "drc-published-widths"])}) == 1


def test_drc_as_published_is_searched_and_pruned_by_the_papers_rules() -> None:
    variants = find_variants(["drc", "drc-published", "drc-published-widths", "uniform-published"])
    options = replace(OPTIONS, gamma=0.5, dual_weight=0.2)
    here, published, widths, pruning = (options.stages(Cell(each, 0.3, 1), "progressive") for each in variants)
    assert (published.search.importance, published.search.order, published.prune.refits) == ("l1", 2, False)
    assert (here.search.importance, here.search.order, here.prune.refits) == ("energy", 1, True)
    assert (widths.search, widths.prune) == (published.search, here.prune)
    assert pruning.prune == published.prune
    for stages in (here, published):
        assert (stages.prune.gamma, stages.prune.dual_weight, stages.finetune.dual_weight) == (0.5, 0.2, 0.2)
    without = replace(OPTIONS, dual_weight=0.0).stages(Cell(variants[0], 0.3, 1), "progressive")
    assert (without.finetune.dual, without.search.dual_weight) == ("none", 0)


def test_tables_hold_means_and_spreads() -> None:
    def cell(variant: str, seed: int, psnr: float) -> dict[str, Any]:
        return {
            "variant": variant,
            "ratio": 0.3,
            "seed": seed,
            "seconds": {"search": 10 * seed},
            "params": 1000,
            "multiply_adds": 2_000_000_000,
            "at": {},
            "psnr_y": {"Set5": psnr},
            "ssim_y": {"Set5": psnr / 40},
        }

    unpruned = {"variant": "unpruned", "params": 2000, "multiply_adds": 3e9, "start": START}
    unpruned |= {"psnr_y": {"Set5": 31.5}, "ssim_y": {"Set5": 0.88}}
    values = [31.0, 31.1, 31.3]
    text = tables(
        [unpruned, *(cell("drc", i + 1, v) for i, v in enumerate(values)), cell("no-duals", 1, 30.0)], OPTIONS
    )
    spread = f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f} / {statistics.mean(values) / 40:.4f}"
    assert f"| DRC | 2 | 3 | 1 | 2.000 | 20 | {spread} |" in text
    assert "| DRC without duals in any stage | 2 | 1 | 1 | 2.000 | 10 | 30.000 / 0.7500 |" in text
    assert text.count("| before pruning |  |  | 2 | 3.000 |  | 31.500 / 0.8800 |") == 3


def test_rows_are_compared_with_the_first_within_a_seed() -> None:
    def cell(variant: str, seed: int, psnr: float) -> dict[str, Any]:
        figures = {"psnr_y": {"Set5": psnr}, "ssim_y": {"Set5": 0.9}}
        return {"variant": variant, "ratio": 0.5, "seed": seed, "seconds": {"search": 1}, "at": {}, **SIZE, **figures}

    unpruned = {"start": START, **SIZE, "psnr_y": {"Set5": 32.0}, "ssim_y": {"Set5": 0.9}}
    rows = [cell("no-duals", seed, 31 + seed) for seed in (1, 2, 3)]
    rows += [cell("drc", 2, 33.2), cell("drc", 1, 32.0), cell("drc", 4, 50.0)]
    text = tables([unpruned, *rows], OPTIONS, find_table("table6"))
    # Seeds 1 and 2 are in both rows: 0.0 and 0.2 dB. t is 12.7062 for one degree of freedom.
    half = 12.7062 * 0.1
    assert f"| DRC | 2 | +0.100 ± 0.141 ({0.1 - half:+.3f} to {0.1 + half:+.3f}) |" in text
    assert "as Table 6" in text
    assert "as Table 2" not in text
    assert "Seeds: 1, 2, 3, 4." in text


def test_gamma_varies_in_pruning_alone_and_has_a_table_for_each_method(inputs: CompressInputs, tmp_path: Path) -> None:
    table = find_table("gamma")
    cells = list(all_cells([0.5], [1], find_variants(["drc", "drc-published"]), [0.0, 2.5]))
    for gamma, cell in zip([0.0, 2.5] * 2, sorted(cells, key=lambda cell: cell.variant.name), strict=True):
        with_gamma, plain = OPTIONS.stages(cell), OPTIONS.stages(replace(cell, gamma=None))
        assert with_gamma == replace(plain, prune=replace(plain.prune, gamma=gamma))
    results = Ablation(inputs, OPTIONS, tmp_path / "a", restart=False).run(cells)
    assert len({tuple(result["widths"]) for result in results[1:3]}) == 1
    assert len(list((tmp_path / "a" / "searches").glob("*.widths.json"))) == 2
    text = tables(results, OPTIONS, table)
    assert [line for line in text.splitlines() if line.startswith("###")] == [
        "### Weight of the dual regression loss in pruning (as Figure 7b), DRC as published, ratio 0.5",
        "### Weight of the dual regression loss in pruning (as Figure 7b), DRC, ratio 0.5",
    ]
    assert text.count("| gamma 2.5 |") == 2


def test_what_is_named_twice_is_compared_once() -> None:
    """Two equal cells would pass for two seeds that agree."""
    variants = find_variants(["uniform", "uniform"])
    assert len(list(all_cells([0.3, 0.3], [1, 2], variants))) == 2


def test_every_ratio_has_a_cell_of_its_own() -> None:
    names = [cell.name for cell in all_cells([0.3, 0.304, 0.03, 0.305, 0.07], [1], find_variants(["drc"]))]
    assert names[:2] == ["drc_r30_s1", "drc_r30_4_s1"]
    assert len(set(names)) == 5
    assert all("." not in name for name in names)


@pytest.mark.parametrize("restart", [False, True])
def test_folders_that_no_comparison_made_are_left_alone(inputs: CompressInputs, tmp_path: Path, restart: bool) -> None:
    mine = tmp_path / "project" / "work" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UsageError, match="of no comparison"):
        Ablation(inputs, OPTIONS, tmp_path / "project", restart=restart)
    assert mine.read_text() == "mine"


def test_options_that_cannot_be_run_leave_nothing_behind(inputs: CompressInputs, tmp_path: Path) -> None:
    cells = list(all_cells([0.5], [1], find_variants(["uniform"])))
    with pytest.raises(UsageError, match="steps must be at least 1"):
        Ablation(inputs, replace(OPTIONS, finetune_steps=0), tmp_path / "a", restart=False).run(cells)
    with pytest.raises(UsageError, match="cannot be a seed"):
        Ablation(inputs, OPTIONS, tmp_path / "a", restart=False).run([*cells, replace(cells[0], seed=2**63)])
    assert not (tmp_path / "a").exists()
    Ablation(inputs, OPTIONS, tmp_path / "a", restart=False).run(cells)
    with pytest.raises(UsageError, match="steps must be at least 1"):
        Ablation(inputs, replace(OPTIONS, finetune_steps=0), tmp_path / "a", restart=True).run(cells)
    assert list((tmp_path / "a" / "cells").iterdir())


def test_a_bound_that_cannot_be_met_does_not_keep_others_from_the_folder(
    inputs: CompressInputs, tmp_path: Path
) -> None:
    cells = list(all_cells([0.95], [1], find_variants(["uniform"])))
    with pytest.raises(UsageError, match="nearest"):
        Ablation(inputs, OPTIONS, tmp_path / "a", restart=False).run(cells)
    Ablation(inputs, replace(OPTIONS, round_to=1), tmp_path / "a", restart=False)


def test_a_folder_of_another_latency_table_is_refused(inputs: CompressInputs, tmp_path: Path) -> None:
    table = LatencyTable("drn_xs", 4, "this", "torch", 8, 8, 0.5, (), ())
    timed, options = replace(inputs, latency=table), replace(OPTIONS, target="latency")
    Ablation(timed, options, tmp_path / "a", restart=False).run([])
    (tmp_path / "a" / "cells").mkdir()
    (tmp_path / "a" / "cells" / "drc_r50_s1.json").write_text("{}")
    Ablation(timed, options, tmp_path / "a", restart=False)
    with pytest.raises(UsageError, match="other options"):
        Ablation(replace(inputs, latency=replace(table, fixed_ms=0.4)), options, tmp_path / "a", restart=False)


def test_an_infinite_psnr_has_a_place_in_the_tables() -> None:
    """Equal images: a flat one that comes out right."""
    unpruned = {"params": 1, "multiply_adds": 1, "psnr_y": {"flat": None}, "ssim_y": {"flat": 1.0}}
    cell = {"variant": "drc", "ratio": 0.3, "seed": 1, "seconds": {"search": 1}, "at": {}, **unpruned}
    before = {"variant": "unpruned", "start": START, **unpruned}
    text = tables([before, cell, {**cell, "seed": 2, "psnr_y": {"flat": 50.0}}], OPTIONS)
    assert "| before pruning |  |  | 0 | 0.000 |  | inf |" in text
    assert "| DRC | 2 | 2 | 0 | 0.000 | 1 | inf |" in text


def test_a_search_whose_widths_were_deleted_is_done_again(inputs: CompressInputs, tmp_path: Path) -> None:
    first, second = (list(all_cells([0.5], [1], find_variants([name]))) for name in ("uniform", "dcp"))
    Ablation(inputs, OPTIONS, tmp_path / "a", restart=False).run(first)
    (widths,) = (tmp_path / "a" / "searches").glob("*.widths.json")
    found = widths.read_text()
    widths.unlink()
    Ablation(inputs, OPTIONS, tmp_path / "a", restart=False).run(second)
    assert widths.read_text() == found


def test_edited_files_of_a_comparison_are_refused_or_made_again(inputs: CompressInputs, tmp_path: Path) -> None:
    cells = list(all_cells([0.5], [1], find_variants(["uniform"])))
    first = Ablation(inputs, OPTIONS, tmp_path / "a", restart=False).run(cells)
    (cell,) = (tmp_path / "a" / "cells").iterdir()
    cell.write_text('{"variant": "uniform", "ratio": 0.5, "seed": 1}')
    with pytest.raises(ArtefactError, match="'at'"):
        Ablation(inputs, OPTIONS, tmp_path / "a", restart=False).run(cells)
    cell.unlink()
    (seconds,) = (tmp_path / "a" / "searches").glob("*.seconds")
    seconds.write_text("long")
    second = Ablation(inputs, OPTIONS, tmp_path / "a", restart=False).run(cells)
    assert [{**one, "seconds": None} for one in first] == [{**one, "seconds": None} for one in second]


def test_two_comparisons_at_once_in_one_folder_are_not_mixed(inputs: CompressInputs, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with only_one(tmp_path / "a"), pytest.raises(OutputError, match="another process"):
        Ablation(inputs, OPTIONS, tmp_path / "a", restart=False).run([])
