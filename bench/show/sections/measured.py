"""The section of what is measured beside the latency: the network alone, streams, trust, and how true images are."""

from collections.abc import Iterable
from html import escape

from drc_deploy.bench.measure.measurement import Measurement
from drc_deploy.bench.measure.stability import Stability
from drc_deploy.bench.report.conclusions import by_latency
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.show.page_figures import chip
from drc_deploy.bench.show.sentences import comparison_text, difference_text, host_share_text, peer_lines

HEADINGS = ("engine", "network alone, ms", "host", "stream, images/s", "Mpixel/s", "trust", "to torch, dB", "seams, dB")


def measured_section(report: Report) -> str:
    """Return a table and the comparisons; nothing for reports of older versions."""
    ranked = enumerate(by_latency(report.engines))
    rows = [_row(index, engine.name, found) for index, engine in ranked if (found := engine.measurement)]
    if not rows:
        return ""
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    return (
        '<section id="beside"><h2>Beside the latency</h2><p>The network alone takes a batch that lies in memory; the '
        "host is what tiling and copying add to it, with its 95 % interval. A stream has as many batches under way as "
        "the engine takes. Images are compared with torch in float32, and tiled with untiled.</p>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Beside the latency"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"{_sentences(map(comparison_text, report.comparisons))}{_sentences(peer_lines(report.engines))}</section>"
    )


def _row(index: int, name: str, found: Measurement) -> str:
    network, stream, split = found.engine_only, found.throughput, found.engine_only.split
    parts = ""
    if split is not None:
        parts = f"up {split.upload_ms:.2f}, compute {split.compute_ms:.2f}, down {split.download_ms:.2f}"
    cells = (
        f"{chip(index)} {escape(name)}",
        f"{network.latency.median_ms:.2f}<small>{parts}</small>",
        "{}<small>{}</small>".format(*host_share_text(network)),
        f"{stream.images_per_second:.2f}",
        f"{stream.output_megapixels_per_second:.1f}",
        _trust(found.stability),
        escape(difference_text(found.torch.difference, found.torch.note)),
        escape(difference_text(found.seam.difference, found.seam.note)),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _trust(stability: Stability) -> str:
    """Return the verdict, and what it lacks where it is none."""
    lacks = "; ".join(stability.not_seen) if stability.verdict == "unknown" else ""
    return stability.verdict + (f"<small>{escape(lacks)}</small>" if lacks else "")


def _sentences(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""
