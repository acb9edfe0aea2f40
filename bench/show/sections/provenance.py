"""The section of where everything comes from: files, checkpoints, machine, method, and how to repeat it."""

from collections.abc import Iterable, Sequence
from html import escape

from drc_deploy.bench.report.conclusions import by_latency
from drc_deploy.bench.report.records import EngineResult, NotMeasured, Report
from drc_deploy.bench.show.page_figures import chip, definitions, machine_facts, method_facts


def provenance_section(report: Report) -> str:
    """Tell on what, how and with which files and programs it was measured, and how to repeat it."""
    settings = report.settings
    return (
        '<section id="method"><h2>Machine, method and files</h2>'
        f"<h3>Machine</h3>{definitions(machine_facts(report))}"
        f"<h3>Method</h3>{definitions(method_facts(report))}"
        f"{_files(by_latency(report.engines))}"
        f"<h3>Do it again</h3><p>With drc-deploy {escape(report.version)}, these files and these images:</p>"
        f"<pre>{escape(settings.command)}</pre></section>"
        f"<footer>Made by drc-deploy {escape(report.version)} at {escape(report.created)}. Every raw sample is in "
        "report.json beside this page.</footer>"
    )


def _files(engines: Sequence[EngineResult]) -> str:
    if not engines:
        return ""
    entries = "".join(_file(index, engine) for index, engine in enumerate(engines))
    return f'<h3>Files</h3><p>As <code>sha256sum</code> gives them.</p><dl class="files">{entries}</dl>'


def _file(index: int, engine: EngineResult) -> str:
    network = engine.engine
    about = (
        f"{network.model} x{network.scale}, {network.params:,} parameters, {network.precision} with {network.io_dtype} "
        f"pixels, {engine.size_bytes:,} bytes, loaded in {engine.load_ms:.0f} ms, run by {engine.device}"
    )
    checkpoint = "" if network.checkpoint_sha256 == engine.sha256 else f"checkpoint {network.checkpoint_sha256}"
    lines = "".join(f"<code>{escape(line)}</code>" for line in (f"file {engine.sha256}", checkpoint) if line)
    return f"<dt>{chip(index)} {escape(engine.name)}</dt><dd>{escape(about)}{lines}</dd>"


def not_measured_section(left_out: Iterable[NotMeasured]) -> str:
    """Name the engines without a result, and why."""
    rows = "".join(
        f"<dt>{escape(item.name)}</dt><dd><b>{item.kind}</b>: {escape(item.reason)} "
        f'<span class="small">{escape(item.hint)}</span></dd>'
        for item in left_out
    )
    return f'<section id="not-measured"><h2>Not measured</h2><dl>{rows}</dl></section>' if rows else ""
