"""Curves of training runs as a PNG."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FormatStrFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from drc_deploy.errors import ArtefactError
from drc_deploy.files import atomic_path

Entries: TypeAlias = Sequence[Mapping[str, Any]]
"""The lines that ``journal.read_journal`` returns."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which colour-blind people can distinguish."""
SIZE_INCHES = (11.0, 7.5)
DOTS_PER_INCH = 120
LOG_FROM_RATIO = 8.0
"""An axis whose highest value is so many times its lowest is logarithmic."""
MEDIAN_SHARE = 1 / 50
"""Width of the running median, as a share of the points."""
MEDIANS = 2000
"""More than a figure has columns of pixels only take time."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Finite values over the steps of a run, both (n,)."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, entries: Entries, kind: str, name: str) -> "Curve":
        """Take one value from the lines of one kind; lines without it, or where it was not finite, are left out."""
        found = [(entry["step"], entry.get(name)) for entry in entries if entry["kind"] == kind]
        points = np.array([point for point in found if point[1] is not None], np.float64).reshape(-1, 2)
        return cls(points[:, 0], points[:, 1])

    def __len__(self) -> int:
        return len(self.steps)

    def running_median(self) -> "Curve":
        """Return the median around each of at most ``MEDIANS`` points; at the ends over what is there."""
        reach = max(1, round(len(self) * MEDIAN_SHARE / 2))
        centres = np.unique(np.linspace(0, len(self) - 1, min(len(self), MEDIANS)).astype(int))
        medians = [np.median(self.values[max(0, c - reach) : c + reach + 1]) for c in centres]
        return Curve(self.steps[centres], np.array(medians))

    def best(self) -> tuple[int, float]:
        """Return step and value of the highest point, the first of equals; there must be one."""
        index = int(np.argmax(self.values))
        return int(self.steps[index]), float(self.values[index])


def draw_curves(runs: Mapping[str, Entries], target: Path) -> None:
    """Draw loss, its two parts, learning rate and validation PSNR of runs, by their names, into a PNG.

    Raises:
        ArtefactError: a run has no line of training.
        OutputError: ``target`` cannot be written.
    """
    figure = build_figure(runs)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format="png")


def build_figure(runs: Mapping[str, Entries]) -> Figure:
    """Build what ``draw_curves`` draws.

    Raises:
        ArtefactError: a run has no line of training.
    """
    for name, entries in runs.items():
        if not any(entry["kind"] == "train" for entry in entries):
            raise ArtefactError(f"the log of {name} holds no line of training yet.", "Wait until it has made progress.")
    figure = Figure(SIZE_INCHES, DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    panels: list[Callable[[Axes, str, str, Entries], None]] = [_loss, _parts, _learning_rate, _psnr]
    axes: list[Axes] = list(figure.subplots(2, 2, sharex=True).flat)
    for axis, draw in zip(axes, panels, strict=True):
        for (name, entries), colour in zip(runs.items(), cycle(COLOURS), strict=False):
            draw(axis, name, colour, entries)
    _label(axes)
    _title(figure, list(runs))
    return figure


def _loss(axis: Axes, name: str, colour: str, entries: Entries) -> None:
    _draw_noisy(axis, Curve.of(entries, "train", "loss"), color=colour, label=name)


def _parts(axis: Axes, _name: str, colour: str, entries: Entries) -> None:
    _draw_noisy(axis, Curve.of(entries, "train", "primal"), color=colour, label="primal")
    dual = Curve.of(entries, "train", "dual")
    if dual.values.any():  # it is zero where a run trains without duals
        _draw_noisy(axis, dual, color=colour, linestyle="--", label="dual")
    if any("kernel" in entry for entry in entries):
        _draw_noisy(axis, Curve.of(entries, "train", "kernel"), color=colour, linestyle=":", label="kernel")


def _draw_noisy(axis: Axes, curve: Curve, *, color: str, **style: Any) -> None:
    """Draw what was measured faintly, and its running median over that."""
    median = curve.running_median()
    axis.plot(curve.steps, curve.values, color=color, alpha=0.25, linewidth=0.8, zorder=1.5)
    axis.plot(median.steps, median.values, color=color, linewidth=1.8, **style)


def _learning_rate(axis: Axes, name: str, colour: str, entries: Entries) -> None:
    curve = Curve.of(entries, "train", "learning_rate")
    axis.plot(curve.steps, curve.values, color=colour, linewidth=1.8, label=name)


def _psnr(axis: Axes, name: str, colour: str, entries: Entries) -> None:
    curve = Curve.of(entries, "validation", "psnr")
    if not len(curve):
        return
    axis.plot(curve.steps, curve.values, color=colour, linewidth=1.8, marker="o", markersize=4)
    step, psnr = curve.best()
    axis.plot([step], [psnr], "*", color=colour, markersize=13, label=f"{name}: best {psnr:.2f} dB at step {step:,}")


def _label(axes: list[Axes]) -> None:
    titles = ("Loss", "Parts of the loss", "Learning rate", "Validation")
    errors = "sum of mean absolute errors (grey levels)"
    units = ("all parts, weighted (grey levels)", errors, "learning rate", "PSNR on Y (dB)")
    for axis, title, unit in zip(axes, titles, units, strict=True):
        axis.set_title(title, fontsize=11, loc="left", fontweight="bold")
        axis.set_ylabel(unit)
        axis.grid(alpha=0.3, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelbottom=True)
        axis.set_xlabel("step (updates of the weights)")
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axis in axes[:2]:
        _scale(axis)
    axes[2].yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes[2].set_ylim(bottom=0)
    _legends(axes[1], axes[3])


def _scale(axis: Axes) -> None:
    """Make the axis of values logarithmic if they fall by much, with numbers that can be read."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axis.lines])
    positive = values[values > 0]
    if not len(positive) or positive.max() < LOG_FROM_RATIO * positive.min():
        axis.set_ylim(bottom=0)
        return
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _legends(parts: Axes, psnr: Axes) -> None:
    drawn = {line.get_label() for line in parts.lines}
    kinds = {name: style for name, style in {"primal": "-", "dual": "--", "kernel": ":"}.items() if name in drawn}
    parts.legend(handles=[Line2D([], [], color="0.3", ls=style, label=name) for name, style in kinds.items()])
    if psnr.lines:
        psnr.legend(loc="lower right")
    else:
        psnr.text(0.5, 0.5, "not validated yet", transform=psnr.transAxes, ha="center", color="0.4")
        psnr.set_yticks([])


def _title(figure: Figure, names: list[str]) -> None:
    if len(names) == 1:
        figure.suptitle(names[0])
    else:
        lines = [line for line in figure.axes[0].lines if line.get_label() in names]
        figure.legend(handles=lines, loc="outside upper center", ncols=min(len(names), 4), frameon=False)
