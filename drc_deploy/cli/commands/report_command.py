"""``drc-deploy report``."""

from pathlib import Path

import click

from drc_deploy.cli import options


@click.command(name="report", short_help="Write the page of a report again, or merge reports of several machines.")
@click.argument("reports", metavar="REPORT.json...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the results.  [default: next to REPORT.json; WORKDIR/merged for several]",
)
@options.workdir_option
@options.json_option
def command(reports: tuple[Path, ...], out: Path | None, workdir: Path, as_json: bool) -> None:
    """Write the page, the Markdown and the CSV of REPORT.json again.

    Several reports are merged into one page, with the machines side by side, and into one reports.json. This command
    reads a reports.json too.
    """
    import dataclasses

    from drc_deploy.bench.show.publish import publish

    published = publish(reports, out, workdir / "merged")
    lines = [f"Page: {published.files['page']} (open it in a browser)"]
    lines += [f"      {file}" for kind, file in published.files.items() if kind != "page"]
    lines += [f"warning: {note}" for note in published.notes]
    options.emit(dataclasses.asdict(published), as_json=as_json, text="\n".join(lines))
