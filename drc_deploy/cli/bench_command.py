"""``drc-deploy bench``."""

from pathlib import Path

import click

from drc_deploy.cli import options
from drc_deploy.cli.remote_options import remote_options, take_remote
from drc_deploy.errors import DrcDeployError

LONGEST_S = 3600


def _check_seconds(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuse what ends never; unlike a range, also NaN."""
    if not 0 <= value <= LONGEST_S:
        raise click.BadParameter(f"give 0 to {LONGEST_S} seconds.", context, parameter)
    return value


@click.command(name="bench", short_help="Measure latency, memory and quality, and write a report.")
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
@remote_options
@options.json_option
def command(as_json: bool, out: Path | None, size: tuple[int, int], **arguments: object) -> None:
    """Measure latency, memory and quality of ENGINEs in one run, and write report.json and report.html.

    ENGINE is a shipped name, a checkpoint, an .onnx or a .plan file; without any, everything in the work folder is
    measured. The engines take turns, each in a process of its own. With --remote all this happens on another machine,
    which has the same drc-deploy, and the report is written here.
    """
    from drc_deploy import records
    from drc_deploy.bench.campaign import BenchOptions, run_bench
    from drc_deploy.bench.console import report_table
    from drc_deploy.bench.page import write_page
    from drc_deploy.bench.report import write_report

    remote = take_remote(arguments)
    workdir = Path(str(arguments["workdir"]))
    folder = out or workdir / "bench"
    settings = BenchOptions(out=folder, height=size[0], width=size[1], **arguments)  # type: ignore[arg-type]
    if remote:
        from drc_deploy.bench.remote import run_remote_bench

        report = run_remote_bench(settings, remote)
    else:
        report = run_bench(settings)
    files = {"report": str(write_report(report, folder)), "page": str(write_page(report, folder))}
    text = f"{report_table(report)}\n\nReport: {files['page']} (open it in a browser)\n        {files['report']}"
    options.emit(records.to_dict(report) | {"files": files}, as_json=as_json, text=text)
    if not report.engines:
        raise DrcDeployError("no engine could be measured; the reasons are in the report.", "See `drc-deploy doctor`.")
