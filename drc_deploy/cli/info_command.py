"""``drc-deploy info``."""

from pathlib import Path

import click

from drc_deploy.cli import options


@click.command(name="info", short_help="Show what a file is and where it comes from.")
@click.argument("reference", metavar="FILE")
@options.workdir_option
@options.json_option
def command(reference: str, workdir: Path, as_json: bool) -> None:
    """Show what FILE is and where it comes from.

    FILE is a checkpoint, a .widths.json, an .onnx, a .plan, a report.json, or a shipped name.
    """
    from drc_deploy.cli.describe import describe_file, facts_text
    from drc_deploy.locate import find_file

    facts = describe_file(find_file(reference, workdir))
    options.emit(facts, as_json=as_json, text=facts_text(facts))
