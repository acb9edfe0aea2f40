"""``drc-deploy bench``."""

from pathlib import Path
from typing import Any

import click

from drc_deploy.cli import bench_compare, options
from drc_deploy.errors import DrcDeployError

LONGEST_S = 3600


def _check_seconds(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuse what ends never; unlike a range, also NaN."""
    if not 0 <= value <= LONGEST_S:
        raise click.BadParameter(f"give 0 to {LONGEST_S} seconds.", context, parameter)
    return value


class BenchCommand(click.Command):
    """Also finds ``bench compare``, and leaves ``compare`` to be an engine where no report follows it."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Give the context of the command that is meant."""
        about_reports = any(word.endswith(".json") or word in ("-h", "--help") for word in args[1:])
        if args[:1] == [bench_compare.NAME] and about_reports:
            compare = bench_compare.command
            return compare.make_context(f"{info_name} {compare.name}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(
    name="bench",
    cls=BenchCommand,
    epilog="`drc-deploy bench compare BEFORE.json AFTER.json` tells what changed between two reports.",
    short_help="Measure latency, memory and quality, and write a report.",
)
@click.argument("engines", metavar="[ENGINE]...", nargs=-1)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder that holds HR/ and LRx4/ (or LRx8/).  [default: the photographs that ship with drc-deploy]",
)
@click.option("--lr-dir", "lr_folder", help="Folder of LR images inside --data.  [default: LRx and the scale]")
@options.workdir_option
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the report.  [default: WORKDIR/bench]"
)
@options.size_option("128x128")
@click.option(
    "--min-seconds",
    type=float,
    default=3.0,
    show_default=True,
    callback=_check_seconds,
    help="Time each engine gets.",
)
@click.option("--min-runs", type=click.IntRange(1), default=40, show_default=True, help="Timed runs of each engine.")
@options.threads_option
@options.precision_option
@options.json_option
def command(as_json: bool, out: Path | None, size: tuple[int, int], **arguments: object) -> None:
    """Measure latency, memory and quality of ENGINEs in one run, and write report.json, .html, .md and .csv.

    ENGINE is a shipped name, a checkpoint, an .onnx or a .plan file; without any, everything in the work folder is
    measured. The engines take turns, each in a process of its own.
    """
    from drc_deploy import records
    from drc_deploy.bench.campaign import BenchOptions, run_bench
    from drc_deploy.bench.console import report_table
    from drc_deploy.bench.page import write_page
    from drc_deploy.bench.publishing.publish import write_tables
    from drc_deploy.bench.report import write_report

    workdir = Path(str(arguments["workdir"]))
    folder = out or workdir / "bench"
    settings = BenchOptions(out=folder, height=size[0], width=size[1], **arguments)  # type: ignore[arg-type]
    report = run_bench(settings)
    files = {"report": str(write_report(report, folder)), "page": str(write_page(report, folder))}
    files |= write_tables([report], folder)
    text = f"{report_table(report)}\n\nReport: {files['page']} (open it in a browser)\n        {files['report']}"
    options.emit(records.to_dict(report) | {"files": files}, as_json=as_json, text=text)
    if not report.engines:
        raise DrcDeployError("no engine could be measured; the reasons are in the report.", "See `drc-deploy doctor`.")
