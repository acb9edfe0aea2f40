"""``drc-deploy models``."""

from pathlib import Path
from typing import Any

import click

from drc_deploy.cli.options import emit, json_option

MEASURED_LATER = {"drn_s": 31.940}
"""PSNR on Set5 of shipped networks whose file does not record it; docs/results.md has the command that measured it."""


@click.command()
@click.option("--model", help="Only this architecture.")
@click.option("--scale", type=int, help="Only this scale.")
@click.option(
    "--widths",
    "widths_path",
    type=click.Path(path_type=Path),
    help="Count the pruned network with these widths: a .widths.json, or one integer a line.",
)
@json_option
def command(model: str | None, scale: int | None, widths_path: Path | None, as_json: bool) -> None:
    """List the models, and the networks that ship with weights.

    Multiply-adds are of a 96x96 input: those of convolutions and linear layers with their biases, as the authors of
    DRN count. The products inside attention are not among them. PSNR is of luma on Set5. With --widths FILE the pruned
    network is listed: of the model and scale in the file, or of --model and --scale.
    """
    from drc_deploy.models.catalogue import list_models

    rows = list_models(model, scale, widths_path)
    wanted = {(row["model"], row["scale"]) for row in rows if not widths_path}
    shipped = [row for row in _shipped() if (row["model"], row["scale"]) in wanted]
    text = _table(rows) + ("\n\n" + _shipped_table(shipped) if shipped else "")
    emit({"models": rows, "shipped": shipped}, as_json=as_json, text=text)


def _shipped() -> list[dict[str, Any]]:
    from drc_deploy.checkpoint_info import read_checkpoint_info
    from drc_deploy.locate import CHECKPOINT_SUFFIX, SHIPPED, shipped_names

    rows = []
    for name in shipped_names():
        path = SHIPPED / f"{name}{CHECKPOINT_SUFFIX}"
        info = read_checkpoint_info(path)
        psnr = info.provenance.get("psnr_y", {}).get("Set5", MEASURED_LATER.get(name))
        facts = {"params": info.params, "set5_psnr_y": psnr, "bytes": path.stat().st_size}
        rows.append({"name": name, "model": info.model, "scale": info.scale, **facts})
    return rows


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'model':<13}{'scale':>6}{'parameters':>13}{'multiply-adds':>15}{'layers':>8}  use"]
    lines += [
        f"{r['model']:<13}{'x' + str(r['scale']):>6}{r['params']:>13,}{r['madds'] / 1e9:>13.3f} G"
        f"{len(r['widths']):>8}  {r['summary']}"
        for r in rows
    ]
    return "\n".join(lines)


def _shipped_table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'ships with weights':<20}{'scale':>6}{'parameters':>13}{'PSNR on Set5':>15}{'file':>11}"]
    for row in rows:
        psnr = "-" if row["set5_psnr_y"] is None else f"{row['set5_psnr_y']:.2f} dB"
        lines.append(
            f"{row['name']:<20}{'x' + str(row['scale']):>6}{row['params']:>13,}{psnr:>15}{row['bytes'] / 1e6:>8.1f} MB"
        )
    return "\n".join(lines)
