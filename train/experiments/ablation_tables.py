"""The cells of an ablation as the paper's tables, in Markdown."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from drc_deploy.train.experiments.ablation import VARIANTS

TABLES = (
    ("Pruning methods (as Table 2)", ("magnitude", "cp", "thinet", "dcp", "srp", "drc")),
    ("How widths are chosen (as Table 4)", ("uniform", "random", "darts", "darts-shared", "drc-plain", "drc")),
    ("Duals in search, pruning and fine-tuning (as Table 6)", ("no-duals", "drc")),
)
_LABELS = {variant.name: variant.label for variant in VARIANTS}


def tables(cells: Sequence[dict[str, Any]]) -> str:
    """Write one table for each comparison and ratio.

    Args:
        cells: What ``Ablation.run`` gives: the unpruned network first.

    Returns:
        Markdown; PSNR on Y in dB as mean and standard deviation over seeds.
    """
    unpruned, *measured = cells
    ratios = sorted({cell["ratio"] for cell in measured})
    blocks = []
    for title, names in TABLES:
        for ratio in ratios:
            rows = [c for c in measured if c["ratio"] == ratio and c["variant"] in names]
            if rows:
                blocks.append("\n".join(_table(f"{title}, ratio {ratio:g}", unpruned, rows, names)))
    return "\n\n".join(blocks) + "\n"


def _table(
    title: str, unpruned: dict[str, Any], cells: Sequence[dict[str, Any]], names: Sequence[str]
) -> Iterator[str]:
    sets = list(unpruned["psnr_y"])
    yield f"### {title}\n"
    yield "| method | seeds | params (K) | mult-adds (G) | search (s) | " + " | ".join(sets) + " |"
    yield "|---|---|---|---|---|" + "---|" * len(sets)
    psnr = " | ".join(_decibels(unpruned["psnr_y"][name], 2) for name in sets)
    yield f"| before pruning |  | {_size([unpruned])} |  | {psnr} |"
    for name in names:
        if rows := [cell for cell in cells if cell["variant"] == name]:
            psnr = " | ".join(_spread([cell["psnr_y"][name] for cell in rows]) for name in sets)
            seconds = statistics.mean(cell["seconds"]["search"] for cell in rows)
            yield f"| {_LABELS[name]} | {len(rows)} | {_size(rows)} | {seconds:.0f} | {psnr} |"


def _size(cells: Sequence[dict[str, Any]]) -> str:
    """Write the mean parameters and multiply-adds as two columns."""
    params, madds = (statistics.mean(cell[name] for cell in cells) for name in ("params", "multiply_adds"))
    return f"{params / 1e3:.0f} | {madds / 1e9:.3f}"


def _spread(values: Sequence[float | None]) -> str:
    """Write mean and standard deviation; None among the values makes the mean infinite."""
    finite = [value for value in values if value is not None]
    if len(finite) < len(values):
        return _decibels(None, 3)
    mean = _decibels(statistics.mean(finite), 3)
    return f"{mean} ± {statistics.stdev(finite):.3f}" if len(finite) > 1 else mean


def _decibels(value: float | None, digits: int) -> str:
    """Write a PSNR; None stands for equal images, as in `metrics.mean_psnr`."""
    return "inf" if value is None else f"{value:.{digits}f}"
