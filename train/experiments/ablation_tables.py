"""The cells of an ablation as the paper's tables, in Markdown."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from drc_deploy.train.experiments.ablation import VARIANTS

TABLES = (
    ("Pruning methods (as Table 2)", ("cp", "thinet", "dcp", "srp", "drc")),
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
    yield f"| before pruning |  | {_thousands(unpruned)} | {_giga(unpruned)} |  | {psnr} |"
    for name in names:
        if rows := [cell for cell in cells if cell["variant"] == name]:
            yield _row(_LABELS[name], rows, sets)


def _row(label: str, cells: Sequence[dict[str, Any]], sets: Sequence[str]) -> str:
    psnr = " | ".join(_spread([cell["psnr_y"][name] for cell in cells]) for name in sets)
    seconds = statistics.mean(cell["seconds"]["search"] for cell in cells)
    params = statistics.mean(cell["params"] for cell in cells)
    madds = statistics.mean(cell["multiply_adds"] for cell in cells)
    return f"| {label} | {len(cells)} | {params / 1e3:.0f} | {madds / 1e9:.3f} | {seconds:.0f} | {psnr} |"


def _spread(values: Sequence[float | None]) -> str:
    finite = [value for value in values if value is not None]
    if len(finite) < len(values):
        return _decibels(None, 3)
    return _mean_and_deviation(finite)


def _mean_and_deviation(values: Sequence[float]) -> str:
    mean = _decibels(statistics.mean(values), 3)
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def _decibels(value: float | None, digits: int) -> str:
    """Write a PSNR; None stands for equal images, as in `metrics.mean_psnr`."""
    return "inf" if value is None else f"{value:.{digits}f}"


def _thousands(size: dict[str, Any]) -> str:
    return f"{size['params'] / 1e3:.0f}"


def _giga(size: dict[str, Any]) -> str:
    return f"{size['multiply_adds'] / 1e9:.3f}"
