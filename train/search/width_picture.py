"""A picture of searched widths: what each layer keeps, and how sure the search was."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from drc_deploy.files import atomic_path
from drc_deploy.widths import WidthsFile, amount

KEPT, FULL, MARK = "#2a78c2", "#d5dbe1", "#d9480f"
INCHES_PER_LAYER = 0.16


def draw_widths(content: WidthsFile, path: Path) -> None:
    """Draw the channels kept in each layer and, where there was a search, the softmax over its candidates, as PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = 2 if content.probabilities else 1
    width = max(8.0, 1.5 + INCHES_PER_LAYER * len(content.layers))
    figure = Figure(figsize=(width, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    bars, *strips = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    share = ""
    if content.asked is not None and content.reached is not None:
        share = f": {amount(content.reached)} {content.unit} of {amount(content.asked)} allowed"
    figure.suptitle(f"{content.model} x{content.scale}, ratio {content.ratio:g}{share}", fontsize=11)
    _draw_bars(bars, content)
    for strip in strips:
        _draw_probabilities(strip, content)
    last = strips[-1] if strips else bars
    last.set_xticks(range(len(content.layers)), content.layers, rotation=90, fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _draw_bars(axes: Axes, content: WidthsFile) -> None:
    places = range(len(content.layers))
    if content.full_widths:  # older files do not hold them
        axes.bar(places, content.full_widths, color=FULL, label="unpruned")
    axes.bar(places, content.widths, color=KEPT, label="kept")
    for place, width in zip(places, content.widths, strict=True):
        axes.annotate(str(width), (place, width), (0, 2), textcoords="offset points", ha="center", fontsize=6)
    axes.set_ylabel("channels")
    axes.margins(x=0.01)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_probabilities(axes: Axes, content: WidthsFile) -> None:
    chances = np.array(content.probabilities).T  # (candidates, layers)
    most = float(chances.max())
    image = axes.imshow(chances, aspect="auto", origin="lower", cmap="Blues", vmin=0, vmax=most)
    axes.set_ylabel("candidate, narrow to wide")
    axes.set_title("framed: nearest to what is kept", loc="right", fontsize=8)
    axes.set_yticks(range(len(chances)), [str(number + 1) for number in range(len(chances))])
    if len(content.layers) <= 24:
        for layer, widths in enumerate(content.candidates):
            for number, width in enumerate(widths):
                shade = "white" if chances[number, layer] > 0.7 * most else "#33424f"
                axes.text(layer, number, str(width), ha="center", va="center", fontsize=7, color=shade)
    for layer, (widths, kept) in enumerate(zip(content.candidates, content.widths, strict=True)):
        # Under a bound on the whole network, what is kept may lie between two candidates.
        nearest = min(range(len(widths)), key=lambda number: (abs(widths[number] - kept), -number))
        axes.add_patch(Rectangle((layer - 0.5, nearest - 0.5), 1, 1, fill=False, edgecolor=MARK, linewidth=1.5))
    axes.figure.colorbar(image, ax=axes, label="softmax", pad=0.01)
