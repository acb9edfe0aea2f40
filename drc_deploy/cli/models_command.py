"""``drc-deploy models``."""

from pathlib import Path
from typing import Any

import click

from drc_deploy.cli.options import emit, json_option


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
    """List the models with their parameters and multiply-adds at a 96x96 input.

    With --widths FILE the pruned network is listed: of the model and scale in the file, or of --model and --scale.
    """
    from drc_deploy.models.catalogue import list_models

    rows = list_models(model, scale, widths_path)
    emit({"models": rows}, as_json=as_json, text=_table(rows))


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'model':<8}{'scale':>6}{'parameters':>13}{'multiply-adds':>15}{'layers':>8}  what"]
    lines += [
        f"{r['model']:<8}{'x' + str(r['scale']):>6}{r['params']:>13,}{r['madds'] / 1e9:>13.3f} G"
        f"{len(r['widths']):>8}  {r['summary']}"
        for r in rows
    ]
    return "\n".join(lines)
