"""``drc-deploy plot``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drc_deploy.cli.options import emit
from drc_deploy.cli.training_options import output_options

if TYPE_CHECKING:
    from drc_deploy.train.loop.plots import Entries


@click.command(short_help="Draw the curves of training runs.")
@click.argument("references", metavar="RUN...", nargs=-1, required=True)
@output_options(".png")
def command(references: tuple[str, ...], output: Path | None, workdir: Path, as_json: bool) -> None:
    """Draw loss, learning rate and validation PSNR of each RUN over each other, into curves.png.

    RUN is a run's folder (NAME.run), the checkpoint next to it, or a name in --workdir. The PNG of one run is written
    to its folder, the PNG of several runs to --workdir.
    """
    from drc_deploy.train.loop.journal import find_run, read_journal
    from drc_deploy.train.loop.plots import draw_curves

    folders = list(dict.fromkeys(find_run(reference, workdir) for reference in references))
    runs = dict(zip(_names(folders), map(read_journal, folders), strict=True))
    target = output or (folders[0] if len(folders) == 1 else workdir) / "curves.png"
    draw_curves(runs, target)
    facts = [{"run": str(folder), **_facts(entries)} for folder, entries in zip(folders, runs.values(), strict=True)]
    lines = [_line(name, fact) for name, fact in zip(runs, facts, strict=True)]
    emit({"plot": str(target), "runs": facts}, as_json=as_json, text="\n".join([*lines, f"Wrote {target}"]))


def _names(folders: list[Path]) -> list[str]:
    """Return short names, or paths where short ones are equal."""
    short = [folder.stem for folder in folders]
    return [name if short.count(name) == 1 else str(folder) for name, folder in zip(short, folders, strict=True)]


def _facts(entries: "Entries") -> dict[str, Any]:
    """Return how far a run is, and its best validation."""
    from drc_deploy.train.loop.plots import Curve

    loss, psnr = Curve.of(entries, "train", "loss"), Curve.of(entries, "validation", "psnr")
    best_step, best_psnr = psnr.best() if len(psnr) else (None, None)
    median = float(loss.running_median().values[-1]) if len(loss) else None
    return {"step": entries[-1]["step"], "loss": median, "best_psnr": best_psnr, "best_step": best_step}


def _line(name: str, fact: dict[str, Any]) -> str:
    loss = "" if fact["loss"] is None else f", loss {fact['loss']:.3f}"
    best = "" if fact["best_psnr"] is None else f", best {fact['best_psnr']:.2f} dB at step {fact['best_step']}"
    return f"{name}: step {fact['step']}{loss}{best}"
