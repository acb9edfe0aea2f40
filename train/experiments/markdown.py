"""What the tables of all comparisons share: figures over seeds, and differences within a seed, in Markdown."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from drc_deploy.train.experiments.paired import Differences
from drc_deploy.train.experiments.paper_tables import PAPER, PaperTable


@dataclass(frozen=True, slots=True)
class Row:
    """Cells that differ in their seed alone."""

    names: tuple[str, ...]
    """The first columns."""
    cells: Sequence[dict[str, Any]]


def rows_at(rows: Sequence[Row], step: int, last: int) -> list[Row]:
    """Return rows with the figures after one of the updates, and its number as another name."""
    found = []
    for row in rows:
        cells = row.cells if step == last else [{**cell, **cell["at"][str(step)]} for cell in row.cells]
        found.append(Row((*row.names, str(step)), cells))
    return found


QUALITY = "Columns of sets hold PSNR in dB / SSIM, both on luma."
"""What readers of a table need to know of ``quality``."""
MID_SCHEDULE = "Figures before the last update come from the middle of the schedule."
"""And of ``rows_at``, where the learning rate falls."""


def heading_lines(columns: Sequence[str]) -> list[str]:
    """Return the first two lines of a table."""
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]


def quality(cells: Sequence[dict[str, Any]], name: str) -> str:
    """Write mean and standard deviation of the PSNR, and the mean SSIM; None stands for equal images."""
    psnr = [cell["psnr_y"][name] for cell in cells]
    if None in psnr:
        return "inf"
    spread = f" ± {statistics.stdev(psnr):.3f}" if len(psnr) > 1 else ""
    ssim = statistics.mean(cell["ssim_y"][name] for cell in cells)
    return f"{statistics.mean(psnr):.3f}{spread} / {ssim:.4f}"


def difference_table(columns: Sequence[str], groups: Sequence[Sequence[Row]], sets: Sequence[str]) -> Iterator[str]:
    """Write the PSNR of rows less that of the first of their group; nothing where no group has two rows.

    Args:
        columns: Headings of ``Row.names``.
        groups: Rows that are compared; the first of each has the same name.
        sets: Names of the benchmark sets.
    """
    compared = [(group[0], row) for group in groups for row in group[1:]]
    if not compared or not sets:
        return
    base = compared[0][0].names[0]
    figures = "mean ± standard deviation (95 % interval of the mean)"
    yield f"\nDifference to the first row ({base}) within a seed, dB: {figures}.\n"
    yield from heading_lines([*columns, *sets])
    for first, row in compared:
        yield f"| {' | '.join([*row.names, *(_difference(first, row, name) for name in sets)])} |"


def _difference(first: Row, row: Row, name: str) -> str:
    base = {cell["seed"]: cell["psnr_y"][name] for cell in first.cells}
    pairs = [(cell["psnr_y"][name], base[cell["seed"]]) for cell in row.cells if cell["seed"] in base]
    if not pairs or any(None in pair for pair in pairs):
        return ""
    return str(Differences.of([ours - theirs for ours, theirs in pairs]))


def seeds_text(cells: Sequence[dict[str, Any]]) -> str:
    """Write which seeds there are, and what follows for the intervals."""
    seeds = sorted({cell["seed"] for cell in cells})
    if len(seeds) == 1:
        return f"One seed ({seeds[0]}): there are no intervals."
    return (
        f"Seeds: {', '.join(map(str, seeds))}. Intervals are of Student's t over seeds; one in twenty leaves out the "
        "true mean by chance."
    )


def source_text(table: PaperTable) -> str:
    """Write where the comparison comes from."""
    source = (
        f"Source: {table.source} of {PAPER}. Its figures are of other networks, photographs and numbers of updates: "
        "they are not comparable with these."
    )
    return f"{source} {table.note}".rstrip()
