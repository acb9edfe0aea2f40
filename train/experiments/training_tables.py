"""The trainings of a comparison as one of the paper's tables, in Markdown."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

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
from drc_deploy.train.experiments.paper_tables import PaperTable
from drc_deploy.train.loop import dual_fit
from drc_deploy.train.loop.run_options import DualVariant, TrainOptions

_LABELS: dict[DualVariant, str] = {
    "none": "without duals",
    "single": "one dual, from the image to its input",
    "progressive": "progressive duals",
    "wide": "progressive duals, twice as wide",
    "hr-cycle": "progressive duals and a cycle from the HR image",
}


def training_table(
    cells: Sequence[dict[str, Any]], options: TrainOptions, table: PaperTable, *, fitted: bool, photographs: str
) -> str:
    """Write one table, the differences within a seed, and what was equal between the rows.

    Args:
        cells: What ``TrainingComparison.run`` gives: what all start from first.
        options: Common to all trainings.
        table: The one that the cells were chosen for.
        fitted: Whether all duals were fitted before the first update.
        photographs: What was trained on, in words.

    Returns:
        Markdown; PSNR on Y in dB as mean and standard deviation over seeds, and the mean SSIM.
    """
    before, *trained = cells
    last = options.steps
    assert last is not None
    sets = list(trained[0]["psnr_y"])
    steps = [*map(int, trained[0]["at"]), last]
    groups = [rows_at(list(_rows(trained, table)), step, last) for step in steps]
    columns = ["training", "updates"]
    lines = [f"### {table.heading}\n", *heading_lines([*columns, "seeds", "ms an update", *sets])]
    if before["psnr_y"]:
        lines.append(f"| before training | 0 |  |  | {' | '.join(quality([before], name) for name in sets)} |")
    for row in (row for group in groups for row in group):
        figures = [quality(row.cells, name) for name in sets]
        lines.append(f"| {' | '.join([*row.names, str(len(row.cells)), _pace(row, last), *figures])} |")
    lines += difference_table(columns, groups, sets)
    texts = [
        _start(before, photographs),
        _effort(options, trained, table),
        _duals(before, fitted=fitted),
        seeds_text(trained),
        source_text(table),
    ]
    return "\n".join(lines) + "\n\n" + "\n\n".join(texts) + "\n"


def _rows(cells: Sequence[dict[str, Any]], table: PaperTable) -> Iterator[Row]:
    for dual, weight in dict.fromkeys((cell["dual"], cell["dual_weight"]) for cell in cells):
        name = f"lambda {weight:g}" if table.values and weight else _LABELS[dual]
        yield Row((name,), [cell for cell in cells if (cell["dual"], cell["dual_weight"]) == (dual, weight)])


def _pace(row: Row, steps: int) -> str:
    """Write the milliseconds of an update, a mean over whole trainings."""
    return f"{1000 * statistics.mean(cell['seconds']['train'] for cell in row.cells) / steps:.1f}"


def _start(before: dict[str, Any], photographs: str) -> str:
    start = before["start"]
    network = (
        f"a new {start['model']} at x{start['scale']}, whose weights the seed decides"
        if "model" in start
        else f"{start['file']} (SHA-256 {start['sha256'][:12]})"
    )
    size = f"{before['params']:,} parameters and {before['multiply_adds'] / 1e9:.3f} G multiply-adds"
    return f"All rows of a seed start from {network}. All networks have {size}. They were trained on {photographs}."


def _effort(options: TrainOptions, cells: Sequence[dict[str, Any]], table: PaperTable) -> str:
    o = options
    curve = f"falling to {o.final_learning_rate:g} by a cosine" if o.schedule == "cosine" else "constant"
    sentences = [
        f"Equal in all rows: the patches of a seed, and {o.steps} updates with {o.batch} patches of "
        f"{o.patch}x{o.patch} at a rate of {o.learning_rate:g}, {curve}, in {o.precision}."
    ]
    if not table.values:
        sentences.append(f"Lambda is {o.dual_weight:g}.")
    weights = f"averages with a decay of {o.ema:g}" if o.ema else "those of the last update"
    sentences.append(f"The measured weights are {weights}.")
    if cells[0]["at"] and o.schedule == "cosine":
        sentences.append(MID_SCHEDULE)
    return " ".join([*sentences, QUALITY])


def _duals(before: dict[str, Any], *, fitted: bool) -> str:
    """Write with which weights the duals began."""
    how = f"on pairs of HR and LR images, for {dual_fit.STEPS} updates of their own"
    if fitted:
        return f"All duals were fitted before the first update {how}."
    if "model" in before["start"]:
        return "All duals began with random weights, as in the paper."
    if before["start"]["duals"]:
        kept = before["start"]["duals"]
        return f"The checkpoint's {kept} duals went on with their weights. Others were fitted before {how}."
    return f"The checkpoint has no duals: they were fitted before the first update {how}."
