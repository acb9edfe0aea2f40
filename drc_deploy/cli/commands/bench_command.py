"""``drc-deploy bench``: `run` and `compare`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drc_deploy.cli import options
from drc_deploy.errors import DrcDeployError, UsageError
from drc_deploy.files import new_folder
from drc_deploy.only_one import only_one
from drc_deploy.printing import say

if TYPE_CHECKING:
    from drc_deploy.bench.remote.here import RemoteOptions
    from drc_deploy.bench.report.records import Report
    from drc_deploy.bench.run.inputs import BenchOptions

LONGEST_S = 3600
LONGEST_LIMIT_S = 30 * 24 * 3600
DEFAULT_PYTHON = "python3"
REMOTE_DETAILS = ("remote_python", "remote_dir", "remote_export")
PROGRAMS = ("torch", "openvino", "ncnn", "trtexec")


def _check_seconds(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuse a time without end, and NaN, which a range of click lets pass."""
    if not 0 <= value <= LONGEST_S:
        raise click.BadParameter(f"give 0 to {LONGEST_S} seconds.", context, parameter)
    return value


def _check_limit(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse a limit that nothing can keep, and NaN, which a range of click lets pass."""
    if value is not None and not 0 < value <= LONGEST_LIMIT_S:
        raise click.BadParameter(f"give more than 0 and at most {LONGEST_LIMIT_S} seconds.", context, parameter)
    return value


class BenchGroup(click.Group):
    """Takes what is not the name of a command for arguments of ``bench run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write ``bench ENGINE`` as ``bench run ENGINE``, then parse."""
        own = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args and args[0] in own else ["run", *args])


@click.group("bench", cls=BenchGroup, short_help="Measure engines, or compare two reports.")
def command() -> None:
    """Measure engines, or compare two reports.

    `drc-deploy bench ENGINE...` is short for `drc-deploy bench run ENGINE...`, and takes the same options: see
    `drc-deploy bench run --help`.
    """


@command.command(
    "run",
    epilog="`drc-deploy bench compare BEFORE.json AFTER.json` shows what changed between two reports.",
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
    help="Shortest time to measure each engine for.",
)
@click.option("--min-runs", type=click.IntRange(1), default=40, show_default=True, help="Timed runs of each engine.")
@options.threads_option
@options.precision_option
@click.option(
    "--against",
    type=click.Choice(PROGRAMS),
    multiple=True,
    help="Measure the same networks in another installed program too. May be given more than once.",
)
@click.option(
    "--case-seconds",
    type=float,
    callback=_check_limit,
    help="Longest time for one engine in all; a slower one is left out.  [default: no limit; 600 in a suite]",
)
@click.option(
    "--suite",
    type=click.Choice(["matrix"]),
    help="matrix: every engine in every way that this machine can run it. After a stop, the same command goes on.",
)
@click.option(
    "--suite-seconds", type=float, callback=_check_limit, help="Begin no further part of a suite after this time."
)
@click.option("--remote", metavar="USER@HOST", help="Measure on this machine, through ssh.")
@click.option(
    "--remote-python",
    metavar="PYTHON",
    help=f"The Python there that has drc-deploy, such as venv/bin/python.  [default: {DEFAULT_PYTHON}]",
)
@click.option(
    "--remote-dir",
    metavar="DIR",
    help="Folder there that keeps copied files and built plans.  [default: a temporary one]",
)
@click.option(
    "--remote-export",
    metavar="OPTIONS",
    help="Make a plan of each .onnx there and measure that: options of `export`, as in '--trt fp16'.",
)
@options.json_option
def run_command(
    workdir: Path,
    out: Path | None,
    size: tuple[int, int],
    suite: str | None,
    suite_seconds: float | None,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Measure latency, memory and quality of ENGINEs in one run, and write report.json, .html, .md and .csv.

    ENGINE is a shipped name, a checkpoint, an .onnx or a .plan file; without any, everything in the work folder is
    measured. The engines take turns, each in a process of its own.

    After Ctrl-C the report holds what was measured so far. A killed run leaves that in unfinished.json, and
    `drc-deploy report` makes a page of it.

    With --remote the engines run on another machine, which needs the same version. The report is written here. A
    remote run that is stopped leaves no report.
    """
    from drc_deploy.bench.run.inputs import BenchOptions

    if suite is None and suite_seconds is not None:
        raise UsageError("--suite-seconds is for suites.", "Give --suite matrix too.")
    if suite is not None and arguments["precision"] is not None:
        raise UsageError(
            "a suite takes checkpoints in every precision that this hardware has, and exported files in their own.",
            "Leave --precision out.",
        )
    remote = _take_remote(arguments)
    if suite is not None and remote:
        raise UsageError("a suite runs on this machine only.", "Leave out --suite or --remote.")
    folder = out or workdir / "bench"
    settings = BenchOptions(workdir=workdir, out=folder, height=size[0], width=size[1], **arguments)
    with new_folder(folder), only_one(folder):
        if suite is not None:
            _run_suite(settings, suite_seconds, as_json)
        elif remote:
            _run_there(settings, remote, as_json)
        else:
            _run_here(settings, as_json)


def _take_remote(arguments: dict[str, Any]) -> "RemoteOptions | None":
    """Take the options out of the ``arguments`` of `bench run`; None without --remote.

    Raises:
        UsageError: they cannot be right.
    """
    remote = arguments.pop("remote")
    python, folder, export = (arguments.pop(name) for name in REMOTE_DETAILS)
    if remote is None:
        for name, value in zip(REMOTE_DETAILS, (python, folder, export), strict=True):
            if value is not None:
                raise UsageError(f"--{name.replace('_', '-')} is for --remote.", "Give --remote USER@HOST as well.")
        return None

    from drc_deploy.bench.remote.here import RemoteOptions
    from drc_deploy.bench.remote.target import parse_target

    target = parse_target(remote)
    if python is not None and (not python or python.startswith("-")):
        raise UsageError(f"{python!r} is no program.", "Give a name or a path with --remote-python.")
    if folder == "":
        raise UsageError("--remote-dir is empty.", "Name a folder on the other machine.")
    return RemoteOptions(target, python or DEFAULT_PYTHON, folder, _export_words(export))


def _export_words(text: str | None) -> tuple[str, ...]:
    """Split options of ``export``."""
    if text is None:
        return ()
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"--remote-export has an open quote: {text}.", "Close it.") from error
    if "--trt" not in {word.split("=")[0] for word in words}:
        raise UsageError("--remote-export makes plans and has no --trt.", "Give for example '--trt fp16'.")
    return words


def _run_here(settings: "BenchOptions", as_json: bool) -> None:
    """Measure; a run that is stopped, or fails, leaves a report of what was measured."""
    from drc_deploy.bench.report.report_files import UNFINISHED_FILE, KeptReport
    from drc_deploy.bench.run import benchmark

    kept = KeptReport(settings.out / UNFINISHED_FILE)
    try:
        report = benchmark.run_bench(settings, kept=kept)
    finally:
        if kept.latest is not None:
            _publish(kept.latest, settings.out, as_json)
            if kept.latest.engines:
                kept.forget()
    _require_engines(report)


def _run_there(settings: "BenchOptions", remote: "RemoteOptions", as_json: bool) -> None:
    from drc_deploy.bench.remote.here import run_remote_bench

    report = run_remote_bench(settings, remote)
    _publish(report, settings.out, as_json)
    _require_engines(report)


def _run_suite(settings: "BenchOptions", seconds: float | None, as_json: bool) -> None:
    """Measure a suite. After a stop or a failure there is a report of the finished parts."""
    from drc_deploy.bench.suite.matrix import plan_text
    from drc_deploy.bench.suite.run import MatrixSuite

    suite = MatrixSuite(settings, seconds)
    say(plan_text(suite.matrix), err=True)
    latest: Report | None = None
    try:
        for report in suite.reports():
            latest = report
    finally:
        if latest is not None:
            _publish(latest, settings.out, as_json)
    if latest is None:
        raise DrcDeployError("the time was over before a part of the suite was measured.", "Raise --suite-seconds.")
    if latest.suite and latest.suite.complete:
        suite.forget()
    _require_engines(latest)


def _publish(report: "Report", folder: Path, as_json: bool) -> None:
    """Write the report and print it; one without figures is only printed where it would replace one with figures."""
    from drc_deploy import records
    from drc_deploy.bench.report.report_files import REPORT_FILE, may_hold_figures, write_report
    from drc_deploy.bench.show.console import report_table
    from drc_deploy.bench.show.publish import write_files

    files, text = {}, report_table(report)
    if report.engines or not may_hold_figures(folder / REPORT_FILE):
        files = {"report": str(write_report(report, folder))} | write_files(report, folder)
        text += f"\n\nReport: {files['page']} (open it in a browser)\n        {files['report']}"
    else:
        say(f"{folder / REPORT_FILE} is of an earlier run and stays as it is.", err=True)
    options.emit(records.to_dict(report) | {"files": files}, as_json=as_json, text=text)


def _require_engines(report: "Report") -> None:
    if not report.engines:
        raise DrcDeployError("no engine could be measured, for the reasons above.", "See `drc-deploy doctor`.")


@command.command("compare", short_help="Show what changed between two reports.")
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
def compare_command(before: Path, after: Path, limits: tuple[str, ...], force: bool, as_json: bool) -> None:
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
