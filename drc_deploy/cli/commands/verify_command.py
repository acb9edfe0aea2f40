"""``drc-deploy verify``: compare an engine with its checkpoint, on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from drc_deploy import records
from drc_deploy.cli import options
from drc_deploy.locate import find_checkpoint, find_engine

if TYPE_CHECKING:
    from drc_deploy.export.verify.engine_check import EngineCheck


@click.command("verify", short_help="Compare the output of an engine with its checkpoint.")
@click.argument("engine")
@click.option(
    "--checkpoint",
    help="Source of ENGINE.  [default: found by its SHA-256 in the work folder or among the shipped ones]",
)
@options.workdir_option
@options.json_option
def command(engine: str, checkpoint: str | None, workdir: Path, as_json: bool) -> None:
    """Run real images through ENGINE, an .onnx or .plan file, and through torch in float32, and compare.

    The exit code is 1 when the engine is further from torch than an export of its precision may be.
    """
    file = find_engine(engine, workdir)
    source = find_checkpoint(checkpoint, workdir) if checkpoint else None

    from drc_deploy.export.verify.engine_check import check_engine

    check = check_engine(file, source, workdir)
    options.emit(records.to_dict(check), as_json=as_json, text=_text(check))
    check.require()


def _text(check: "EngineCheck") -> str:
    psnr = "not a number" if check.psnr_db is None else f"{check.psnr_db:.1f} dB"
    most = "not a number" if check.max_difference is None else f"{check.max_difference:.2f} grey levels"
    images = sum(shape[0] for shape in check.shapes)
    lines = [
        f"{check.engine} ({check.precision}, {check.device}) against {check.checkpoint} in torch in float32,",
        f"on {images} crops of the shipped photographs:",
        f"  PSNR, {'8-bit' if check.io_dtype == 'uint8' else 'float32'} output".ljust(24)
        + f"{psnr} (needed {check.required_psnr_db:.0f})",
        f"  largest difference    {most}",
        f"  8-bit samples off     {check.differing_share:.2%}",
        f"  NaN or infinite       {check.nan_samples}",
        f"  saturated             {check.saturated_share:.2%} (torch {check.reference_saturated_share:.2%})",
    ]
    return "\n".join([*lines, *(f"Note: {note}" for note in check.notes)])
