"""The cells of an ablation as the paper's tables, in Markdown."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from drc_deploy.train.experiments.ablation import VARIANTS, AblationOptions
from drc_deploy.train.pruning.srp import PASSES

TABLES = (
    ("Pruning methods (as Table 2)", ("magnitude", "cp", "thinet", "dcp", "srp", "drc-published", "drc")),
    (
        "How widths are chosen (as Table 4)",
        ("uniform", "by-cost", "random", "darts", "darts-shared", "drc-plain", "drc-published", "drc"),
    ),
    ("Duals in search, pruning and fine-tuning (as Table 6)", ("no-duals", "drc")),
)
_LABELS = {variant.name: variant.label for variant in VARIANTS}


def tables(cells: Sequence[dict[str, Any]], options: AblationOptions) -> str:
    """Write one table for each comparison and ratio, and what was equal between its rows.

    Args:
        cells: What ``Ablation.run`` gives: the unpruned network first.
        options: Of the comparison.

    Returns:
        Markdown; PSNR on Y in dB as mean and standard deviation over seeds, and the mean SSIM.
    """
    unpruned, *measured = cells
    ratios = sorted({cell["ratio"] for cell in measured})
    blocks = []
    for title, names in TABLES:
        for ratio in ratios:
            rows = [c for c in measured if c["ratio"] == ratio and c["variant"] in names]
            if rows:
                blocks.append("\n".join(_table(f"{title}, ratio {ratio:g}", unpruned, rows, names)))
    return "\n\n".join([*blocks, _effort(options)]) + "\n"


def _effort(options: AblationOptions) -> str:
    """Write what all rows had in common, and what each pruning method got."""
    o = options
    return (
        f"Equal in all rows of a table: the bound on {o.target}, multiples of {o.round_to}, the patches of a seed, and "
        f"{o.finetune_steps} updates of fine-tuning at a rate of {o.learning_rate:g} with {o.batch} patches of "
        f"{o.patch}x{o.patch}. Searches made {o.search_steps} steps. CP and ThiNet looked at {o.prune_batches} batches "
        f"for each layer, DCP and DRC at {o.prune_batches} for every {o.channels_per_step} channels; SRP trained for "
        f"{PASSES * o.prune_batches} updates while channels faded."
    )


def _table(
    title: str, unpruned: dict[str, Any], cells: Sequence[dict[str, Any]], names: Sequence[str]
) -> Iterator[str]:
    sets = list(unpruned["psnr_y"])
    yield f"### {title}\n"
    yield "| method | seeds | params (K) | mult-adds (G) | search (s) | " + " | ".join(sets) + " |"
    yield "|---|---|---|---|---|" + "---|" * len(sets)
    quality = " | ".join(_quality([unpruned], name) for name in sets)
    yield f"| before pruning |  | {_size([unpruned])} |  | {quality} |"
    for name in names:
        if rows := [cell for cell in cells if cell["variant"] == name]:
            quality = " | ".join(_quality(rows, name) for name in sets)
            seconds = statistics.mean(cell["seconds"]["search"] for cell in rows)
            yield f"| {_LABELS[name]} | {len(rows)} | {_size(rows)} | {seconds:.0f} | {quality} |"


def _size(cells: Sequence[dict[str, Any]]) -> str:
    """Write the mean parameters and multiply-adds as two columns."""
    params, madds = (statistics.mean(cell[name] for cell in cells) for name in ("params", "multiply_adds"))
    return f"{params / 1e3:.0f} | {madds / 1e9:.3f}"


def _quality(cells: Sequence[dict[str, Any]], name: str) -> str:
    """Write mean and standard deviation of the PSNR, and the mean SSIM; None stands for equal images."""
    psnr = [cell["psnr_y"][name] for cell in cells]
    if None in psnr:
        return "inf"
    spread = f" ± {statistics.stdev(psnr):.3f}" if len(psnr) > 1 else ""
    ssim = statistics.mean(cell["ssim_y"][name] for cell in cells)
    return f"{statistics.mean(psnr):.3f}{spread} / {ssim:.4f}"
