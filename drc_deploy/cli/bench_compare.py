"""``drc-deploy bench compare``."""

from pathlib import Path

import click

from drc_deploy.cli import options
from drc_deploy.errors import DrcDeployError


@click.command("compare", short_help="Show what changed between two reports.")
@click.argument("before", metavar="BEFORE.json", type=click.Path(path_type=Path))
@click.argument("after", metavar="AFTER.json", type=click.Path(path_type=Path))
@click.option(
    "--fail-above",
    "limits",
    metavar="LIMIT",
    multiple=True,
    help="End with exit code 1 when an engine became worse by more: 5% or latency=5%, memory=10%, psnr=0.05dB. "
    "May be given once for each. Two runs of one engine differ too, so latency takes no limit below 5%, and growth of "
    "memory up to 3% and loss of PSNR up to 0.005 dB never cross one. Latency crosses its limit by the estimate, and "
    "only if the interval excludes 1 or there are too few rounds for an interval.",
)
@click.option("--force", is_flag=True, help="Compare although the machines, settings or images differ.")
@options.json_option
def command(before: Path, after: Path, limits: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Print what changed from BEFORE.json to AFTER.json, engine by engine, as a table in Markdown.

    Engines are matched by name, and by checkpoint, precision and device where names differ. Machines, settings and
    images must be the same. Versions of programs may differ and are listed.
    """
    import dataclasses

    from drc_deploy import records
    from drc_deploy.bench.comparison.compare import compare_reports
    from drc_deploy.bench.comparison.thresholds import find_crossings, parse_limits
    from drc_deploy.bench.report.report_files import read_report
    from drc_deploy.bench.show.changes import comparison_text

    wanted = parse_limits(limits)
    first, second = read_report(before), read_report(after)
    comparison = compare_reports(first, second, (str(before), str(after)), force=force)
    crossings = find_crossings(comparison, second, wanted)
    result = records.to_dict(comparison) | {"crossed": [dataclasses.asdict(item) for item in crossings]}
    options.emit(result, as_json=as_json, text=comparison_text(comparison, crossings))
    if crossings:
        more = f", and {len(crossings) - 1} more" if len(crossings) > 1 else ""
        raise DrcDeployError(f"a limit is crossed: {crossings[0].reason}{more}.", "Measure again to rule out chance.")
