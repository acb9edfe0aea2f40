"""The curves show what the journal holds."""

from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import pytest

from drc_deploy.errors import ArtefactError, OutputError
from drc_deploy.train.loop.plots import COLOURS, Curve, build_figure, draw_curves


def entries(steps: int, *, dual: float = 2.0, validations: bool = True) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        primal = 5 + np.sin(step)
        values = {"loss": primal + 0.1 * dual, "primal": primal, "dual": dual, "learning_rate": 1e-4 / step}
        result.append({"kind": "train", "step": step, "time": "", **values})
        if validations and step % 50 == 0:
            result.append({"kind": "validation", "step": step, "time": "", "psnr": 30 - abs(step - 100) / 100})
    return result


def test_lines_hold_the_values_of_the_journal() -> None:
    log = entries(200)
    loss, parts, rate, psnr = build_figure({"net": log}).axes
    train = [entry for entry in log if entry["kind"] == "train"]
    steps = [entry["step"] for entry in train]
    expected = {loss: ["loss"], parts: ["primal", "dual"], rate: ["learning_rate"]}
    for axis, names in expected.items():
        raw = axis.lines[::2]  # each is followed by its running median, but for the learning rate, which has none
        for line, name in zip(raw, names, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), steps)
            np.testing.assert_array_equal(line.get_ydata(), [entry[name] for entry in train])
    np.testing.assert_array_equal(psnr.lines[0].get_xdata(), [50, 100, 150, 200])
    np.testing.assert_array_equal(psnr.lines[0].get_ydata(), [29.5, 30.0, 29.5, 29.0])
    assert psnr.lines[1].get_label() == "net: best 30.00 dB at step 100"


def test_the_loss_of_kernels_is_a_part_where_there_is_one() -> None:
    log = [{**entry, "kernel": 0.5} if entry["kind"] == "train" else entry for entry in entries(100)]
    parts = build_figure({"net": log}).axes[1]
    assert [line.get_label() for line in parts.lines[1::2]] == ["primal", "dual", "kernel"]
    legend = parts.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["primal", "dual", "kernel"]
    plain = build_figure({"net": entries(100)}).axes[1].get_legend()
    assert plain is not None
    assert [text.get_text() for text in plain.get_texts()] == ["primal", "dual"]


def test_axes_say_what_they_show_and_in_which_unit() -> None:
    axes = build_figure({"net": entries(100)}).axes
    assert all("step" in axis.get_xlabel() for axis in axes)
    assert [unit in axis.get_ylabel() for axis, unit in zip(axes, ("grey", "grey", "rate", "dB"), strict=True)]


def test_several_runs_have_colours_and_one_legend() -> None:
    figure = build_figure({"one": entries(100), "two": entries(200, dual=0.0)})
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one", "two"]
    assert [line.get_color() for line in figure.axes[0].lines] == [*COLOURS[:1] * 2, *COLOURS[1:2] * 2]
    assert [line.get_label() for line in figure.axes[1].lines[1::2]] == ["primal", "dual", "primal"]


def test_a_run_that_was_not_validated_says_so() -> None:
    figure = build_figure({"net": entries(100, validations=False)})
    assert [text.get_text() for text in figure.axes[3].texts] == ["not validated yet"]


@pytest.mark.parametrize("steps", [10, 20, 200])
def test_the_png_has_the_size_of_a_screen_and_is_not_empty(tmp_path: Path, steps: int) -> None:
    draw_curves({"net": entries(steps)}, tmp_path / "new" / "curves.png")
    image = cv2.imread(str(tmp_path / "new" / "curves.png"))
    assert image is not None
    assert image.shape == (900, 1320, 3)
    assert image.std() > 5


def test_values_that_are_missing_or_null_are_left_out() -> None:
    log = entries(30)
    log[1]["loss"] = None
    assert Curve.of(log, "train", "loss").steps.tolist() == [10, 30]
    assert len(Curve.of(log, "train", "colour")) == 0


def test_the_running_median_is_that_of_the_neighbours() -> None:
    values = np.random.default_rng(0).normal(size=300)
    found = Curve(np.arange(300.0), values).running_median()
    expected = [median(values[max(0, i - 3) : i + 4].tolist()) for i in range(300)]  # 300/50 points: 3 to each side
    np.testing.assert_allclose(found.values, expected, rtol=1e-15)


@pytest.mark.parametrize("log", [[], [{"kind": "validation", "step": 5, "time": "", "psnr": 30.0}]])
def test_a_log_without_training_is_refused_and_leaves_nothing(tmp_path: Path, log: list[dict[str, Any]]) -> None:
    with pytest.raises(ArtefactError, match="the log of net holds no line of training"):
        draw_curves({"net": log}, tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_a_target_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        draw_curves({"net": entries(20)}, tmp_path / "file" / "curves.png")
