"""``report.html``: one self-contained page made from a ``Report`` and its crops; it needs no network.

Its one script turns the crops into sliders; without it they stand side by side.
"""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from drc_deploy.bench.report.conclusions import by_latency
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.report.report_files import PAGE_FILE
from drc_deploy.bench.show.page_figures import cards, table_section
from drc_deploy.bench.show.sections.crops import crop_section
from drc_deploy.bench.show.sections.document import document
from drc_deploy.bench.show.sections.layers import layers_section
from drc_deploy.bench.show.sections.measured import measured_section
from drc_deploy.bench.show.sections.pareto import pareto_section
from drc_deploy.bench.show.sections.provenance import not_measured_section, provenance_section
from drc_deploy.bench.show.sections.runs import runs_section
from drc_deploy.bench.show.sections.telemetry import telemetry_section
from drc_deploy.files import write_text

HEADING = re.compile(r'<section id="([^"]+)"><h2>(.*?)</h2>')


def write_page(report: Report, folder: Path) -> Path:
    """Write ``report.html`` into ``folder``, where the crops of the report lie, and give its path.

    Raises:
        ArtefactError: a crop is missing.
        OutputError: the page cannot be written.
    """
    path = folder / PAGE_FILE
    write_text(path, render_page(report, folder))
    return path


def render_page(report: Report, folder: Path) -> str:
    """Return the page as text."""
    engines = by_latency(report.engines)
    sections = [pareto_section(report, scale) for scale in sorted({engine.engine.scale for engine in engines})]
    sections += [table_section(report), measured_section(report), crop_section(report, folder)]
    if engines:
        sections += [runs_section(engines)]
    sections += [telemetry_section(report), layers_section(engines)]
    sections += [not_measured_section(report.not_measured), provenance_section(report)]
    head = [_header(report), cards(report), _warnings(report.warnings), _contents(sections)]
    return document(f"drc-deploy bench: {report.created}", [*head, *sections])


def _header(report: Report) -> str:
    machine = report.machine
    where = machine.board or machine.cpu or machine.system
    gpus = ", ".join(gpu.name for gpu in machine.gpus)
    return (
        '<header><p class="kicker">drc-deploy bench</p>'
        f"<h1>{escape(report.summary)}</h1>"
        f"<p>{escape(where)}{escape(f' with {gpus}' if gpus else '')} · "
        f"{escape(report.created[:16].replace('T', ' '))} UTC · "
        f"input {report.settings.width}&times;{report.settings.height}</p></header>"
    )


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    return f'<div class="note" role="note">{"".join(f"<p>{escape(text)}</p>" for text in warnings)}</div>'


def _contents(sections: Sequence[str]) -> str:
    """Return links to the sections that are there."""
    links = "".join(f'<a href="#{match[1]}">{match[2]}</a>' for text in sections if (match := HEADING.match(text)))
    return f'<nav aria-label="Sections">{links}</nav>'
