"""The cells of an ablation as the paper's tables, in Markdown."""

import statistics
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from drc_deploy.train.experiments.ablation import VARIANTS, AblationOptions
from drc_deploy.train.experiments.markdown import (
    MID_SCHEDULE,
    QUALITY,
    Row,
    difference_table,
    heading_lines,
    quality,
    rows_at,
    seeds_text,
    source_text,
)
from drc_deploy.train.experiments.paper_tables import PAPER_TABLES, PaperTable
from drc_deploy.train.pruning.srp import PASSES

TABLES = tuple(table for table in PAPER_TABLES if not table.trains and not table.values)
"""Those that are written where none is named: one run serves them all."""
_LABELS = {variant.name: variant.label for variant in VARIANTS}


def tables(
    cells: Sequence[dict[str, Any]],
    options: AblationOptions,
    named: PaperTable | None = None,
    *,
    lr_made_by: str = "bicubic reduction",
) -> str:
    """Write one table for each comparison and ratio, and what was equal between its rows.

    Args:
        cells: What ``Ablation.run`` gives: the unpruned network first.
        options: Of the comparison.
        named: The only table to write; None: all for which there are rows.
        lr_made_by: How the LR images of photographs were made, in words.

    Returns:
        Markdown; PSNR on Y in dB as mean and standard deviation over seeds, and the mean SSIM. Differences within a
        seed follow each table.
    """
    unpruned, *measured = cells
    last = options.finetune_steps
    steps = [*map(int, measured[0]["at"]), last]
    blocks = []
    for table in (named,) if named else TABLES:
        for ratio in sorted({cell["ratio"] for cell in measured}):
            for title, rows in _rows(table, [cell for cell in measured if cell["ratio"] == ratio]):
                groups = [rows_at(rows, step, last) for step in steps]
                blocks.append("\n".join(_table(f"{title}, ratio {ratio:g}", unpruned, groups)))
    sources = [source_text(named)] if named else []
    variants = {cell["variant"] for cell in measured}
    varied, mid_schedule = bool(named and named.values), any(step > 0 for step in steps[:-1])
    effort = _effort(options, variants, lr_made_by, varied=varied, mid_schedule=mid_schedule)
    return "\n\n".join([*blocks, effort, _start(unpruned), seeds_text(measured), *sources]) + "\n"


def _rows(table: PaperTable, cells: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[Row]]]:
    """Return the titles and rows of one table: a table for each method where it is gamma that varies."""
    by_method = {name: [cell for cell in cells if cell["variant"] == name] for name in table.rows}
    present = {name: found for name, found in by_method.items() if found}
    if not table.values:
        rows = [Row((_LABELS[name],), found) for name, found in present.items()]
        yield from [(table.heading, rows)] if rows else []
        return
    for name, found in present.items():
        gammas = dict.fromkeys(cell["gamma"] for cell in found)
        rows = [Row((f"gamma {gamma:g}",), [cell for cell in found if cell["gamma"] == gamma]) for gamma in gammas]
        yield f"{table.heading}, {_LABELS[name]}", rows


def _table(title: str, unpruned: dict[str, Any], groups: Sequence[Sequence[Row]]) -> Iterator[str]:
    """Write one table; a group of rows holds the figures after so many updates."""
    sets, named = list(unpruned["psnr_y"]), ["method", "updates"]
    yield f"### {title}\n"
    yield from heading_lines([*named, "seeds", "params (K)", "mult-adds (G)", "search (s)", *sets])
    figures = [quality([unpruned], name) for name in sets]
    yield f"| {' | '.join(['before pruning', '', '', *_size([unpruned]), '', *figures])} |"
    for row in (row for group in groups for row in group):
        figures = [quality(row.cells, name) for name in sets]
        seconds = statistics.mean(cell["seconds"]["search"] for cell in row.cells)
        columns = [*row.names, str(len(row.cells)), *_size(row.cells), f"{seconds:.0f}", *figures]
        yield f"| {' | '.join(columns)} |"
    yield from difference_table(named, groups, sets)


def _size(cells: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """Write the mean parameters and multiply-adds."""
    params, madds = (statistics.mean(cell[name] for cell in cells) for name in ("params", "multiply_adds"))
    return f"{params / 1e3:.0f}", f"{madds / 1e9:.3f}"


def _effort(
    options: AblationOptions, variants: Collection[str], lr_made_by: str, *, varied: bool, mid_schedule: bool
) -> str:
    """Write what all rows had in common, and what each pruning method got."""
    o = options
    sentences = [
        f"Equal in all rows of a table: the bound on {o.target}, multiples of {o.round_to}, the patches of a seed, and "
        f"{o.finetune_steps} updates of fine-tuning at a rate of {o.learning_rate:g} with {o.batch} patches of "
        f"{o.patch}x{o.patch}. LR images were made by {lr_made_by}. "
        f"Lambda is {o.dual_weight:g}{'' if varied else f', gamma {o.gamma:g}'}. "
        f"Searches made {o.search_steps} steps. DCP and DRC looked at {o.prune_batches} batches for every "
        f"{o.channels_per_step} channels."
    ]
    if {"cp", "thinet"} & set(variants):
        sentences.append(f"CP and ThiNet looked at {o.prune_batches} batches for each layer.")
    if "srp" in variants:
        sentences.append(f"SRP trained for {PASSES * o.prune_batches} updates while channels faded.")
    if mid_schedule:
        sentences.append(MID_SCHEDULE)
    return " ".join([*sentences, QUALITY])


def _start(unpruned: dict[str, Any]) -> str:
    """Write what all rows started from."""
    start = unpruned["start"]
    duals = (
        f"Rows with duals use its {start['duals']} ones."
        if start["duals"]
        else "It has no duals: a stage that uses some fitted them first, on pairs of HR and LR images."
    )
    return f"All rows start from {start['file']} (SHA-256 {start['sha256'][:12]}). {duals}"
