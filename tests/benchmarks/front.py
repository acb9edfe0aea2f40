"""Quality against time and memory of networks: ``python -m tests.benchmarks.front ENGINE... --data Set5 --data Set14``.

One run of ``bench`` times all engines in turns, and each set is scored by ``eval``. The table is Markdown, the fastest
engine first; the first engine that is named counts as 1.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from drc_deploy.bench.measure.latency import ratio_by_round
from drc_deploy.bench.report.conclusions import by_latency, memory_bytes
from drc_deploy.bench.report.records import EngineResult
from drc_deploy.bench.report.report_files import read_report

MIB = 1 << 20


@click.command()
@click.argument("engines", nargs=-1, required=True)
@click.option("--data", "sets", type=click.Path(path_type=Path, exists=True), multiple=True, required=True)
@click.option("--size", default="180x320", show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--min-runs", default=24, show_default=True)
def main(engines: tuple[str, ...], sets: tuple[Path, ...], size: str, threads: int, min_runs: int) -> None:
    """Print one row for each engine."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["bench", "run", *engines, "--data", str(sets[0]), "--size", size, "--threads", str(threads)]
        run([*words, "--min-runs", str(min_runs), "--out", folder])
        report = read_report(Path(folder) / "report.json")
    given = {measured.name: name for measured, name in zip(report.engines, engines, strict=True)}
    reference = report.engines[0]
    click.echo(f"{reference.device}, {threads} threads, {size}, {min_runs} runs or more")
    scored = " | ".join(path.name for path in sets)
    click.echo(f"| network | parameters | {scored} | ms | time against `{reference.name}` | memory |")
    click.echo("|---" * (len(sets) + 5) + "|")
    for engine in by_latency(report.engines):
        quality = " | ".join(f"{psnr(given[engine.name], data):.2f}" for data in sets)
        click.echo(
            f"| `{engine.name}` | {engine.engine.params:,} | {quality} | {engine.latency.median_ms:.0f} "
            f"| {against(engine, reference)} | {(memory_bytes(engine, 'host') or 0) / MIB:.0f} MiB |"
        )


def psnr(engine: str, data: Path) -> float:
    """Return PSNR on luma in dB."""
    result: float = json.loads(run(["eval", engine, "--data", str(data), "--json"]))["psnr_y"]
    return result


def against(engine: EngineResult, reference: EngineResult) -> str:
    """Return the share of the reference's time, with its 95 % interval."""
    if engine is reference:
        return "1"
    ratio, interval = ratio_by_round(engine.latency, reference.latency)
    return f"{ratio:.2f}" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def run(words: list[str]) -> str:
    """Run a command of drc-deploy; return what it prints."""
    command = [sys.executable, "-m", "drc_deploy", *words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()
