"""Options that several commands share, spelled and explained once."""

import json
from pathlib import Path
from typing import Any

import click

workdir_option = click.option(
    "--workdir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("drc_runs"),
    show_default=True,
    help="Folder where results are written and looked for.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, 1024), help="CPU threads.  [default: each library's choice]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")


def emit(result: dict[str, Any], *, as_json: bool, text: str) -> None:
    """Print the result: ``text`` for people, or ``result`` as one JSON object."""
    click.echo(json.dumps(result, indent=2) if as_json else text)
