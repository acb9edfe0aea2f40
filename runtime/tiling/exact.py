"""Tiles as in the whole image: passes over all tiles find the means that channel attention uses.

In the first pass every tile uses its own means. Behind the first attention it then differs from the whole image, but
the means over all tiles differ only a little. A second pass with those means finds better ones. With these the result
was within one grey level of the untiled one on all photographs that were tried (docs/results.md).
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from drc_deploy.engine_info import (
    EXACT_PLAN_SUFFIX,
    EXACT_SUFFIX,
    GIVEN_NAME,
    INPUT_NAME,
    KEPT_NAME,
    KERNEL_NAME,
    KERNEL_PLAN_SUFFIX,
    KERNEL_SUFFIX,
    MEANS_NAME,
    OUTPUT_NAME,
    SEEN_NAME,
    EngineInfo,
)
from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.blind_parts import open_estimator
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.graph_backend import Feeds, GraphBackend, GraphRunner, only_output
from drc_deploy.runtime.backends.ort.backend import OnnxSessions, read_info
from drc_deploy.runtime.backends.trt.backend import at_shape, check_tensors
from drc_deploy.runtime.backends.trt.runner import PlanRunner
from drc_deploy.runtime.tiling.strips import input_tile
from drc_deploy.runtime.tiling.tiles import Span, TilePlan

PASSES = 2
"""Before the one that makes the result: after one, two samples in a hundred thousand were off by two levels."""
OVERLAP_PX = 16
"""Overlap of tiles when none is given: with half of it, two samples in a million were off by two levels."""

_AGAIN = "Make it with `drc-deploy export CHECKPOINT --exact`."
_INPUTS, _OUTPUTS = [INPUT_NAME, KEPT_NAME, MEANS_NAME, GIVEN_NAME], [OUTPUT_NAME, SEEN_NAME]

_log = logging.getLogger(__name__)


class ExactBackend(GraphBackend):
    """An exact graph (see ``export/graph/exact_graph.py``), one tile at a time.

    By itself every tile uses its own means; ``with_means`` returns the network that uses others.
    """

    def __init__(
        self, runner: GraphRunner, info: EngineInfo, mean_count: int, estimator: GraphRunner | None = None
    ) -> None:
        """Wrap ``runner`` and, of a blind network, ``estimator``; ``mean_count``: how many means its graph takes."""
        super().__init__(runner, info, estimator)
        self._means: Pixels = np.zeros(mean_count, np.float32)
        self._given = False

    @property
    def preferred_batch(self) -> int:
        """One: the kept part belongs to a single tile."""
        return 1

    def with_means(self, means: Pixels) -> "ExactBackend":
        """Return the same network with ``means``, (K,) float32, in the place of those of the tile.

        It shares the sessions of this one, which must stay open as long.
        """
        other = copy(self)
        other._means, other._given = means, True
        return other

    def seen_means(self, tiles: Iterable[tuple[Pixels, Pixels]]) -> Iterator[Pixels]:
        """Return the means of parts of tiles, each (K,) float32.

        Args:
            tiles: Of each a batch of one, and (4,) int64: top, left, bottom and right of the part in input pixels.
        """
        feeds = ({**self._feeds(batch), KEPT_NAME: kept} for batch, kept in tiles)
        return (seen[0] for seen in only_output(self._runner, SEEN_NAME, feeds))

    def _feeds(self, batch: Pixels) -> Feeds:
        whole = np.array([0, 0, *batch.shape[1:3]], np.int64)
        given = {KEPT_NAME: whole, MEANS_NAME: self._means, GIVEN_NAME: np.array([self._given])}
        return {**super()._feeds(batch), **given}


def open_exact(path: Path, *, threads: int | None = None, cpu_only: bool = False) -> ExactBackend:
    """Load a ``NAME.exact.onnx`` in ONNX Runtime, or a ``NAME.exact.plan`` in TensorRT; see ``open_backend``.

    ``cpu_only`` leaves a GPU alone, which a plan cannot.
    """
    if path.suffix == ".plan":
        return _open_plan(path)
    sessions = OnnxSessions(path, threads=threads, cpu_only=cpu_only)
    info = read_info(sessions.session, path)
    sizes = {value.name: value.shape for value in sessions.session.get_inputs()}
    _check_names(path, info, list(sizes), [value.name for value in sessions.session.get_outputs()])
    mean_count = sizes[MEANS_NAME][0]
    sessions.smallest_px = info.taken_side(1)
    sessions.for_smallest = {
        KEPT_NAME: np.array([0, 0, 1, 1], np.int64),
        MEANS_NAME: np.zeros(mean_count, np.float32),
        GIVEN_NAME: np.array([False]),
    }
    estimator = None
    if info.kernel_size is not None:
        sessions.for_smallest[KERNEL_NAME] = np.zeros((1, 1, info.kernel_size, info.kernel_size), np.float32)
        finder = path.with_name(path.name.removesuffix(EXACT_SUFFIX) + KERNEL_SUFFIX)
        estimator, _ = open_estimator(finder, info, threads=threads, cpu_only=cpu_only)
    return ExactBackend(sessions, info, mean_count, estimator)


def _open_plan(path: Path) -> ExactBackend:
    runner = PlanRunner(path)
    estimator = None
    try:
        if runner.sidecar is None:
            raise ArtefactError(f"{path} has no sidecar.", _AGAIN)
        _check_names(path, runner.sidecar.engine, list(runner.inputs), list(runner.outputs))
        _, height, width, _ = runner.inputs[INPUT_NAME].shape
        info = at_shape(runner.sidecar.engine, (height, width), path)
        check_tensors(runner, info, path)
        if info.kernel_size is not None:
            finder = path.with_name(path.name.removesuffix(EXACT_PLAN_SUFFIX) + KERNEL_PLAN_SUFFIX)
            estimator, _ = open_estimator(finder, info)
        return ExactBackend(runner, info, runner.inputs[MEANS_NAME].shape[0], estimator)
    except ArtefactError:
        runner.close()
        raise


def _check_names(path: Path, info: EngineInfo, inputs: list[str], outputs: list[str]) -> None:
    """Refuse another graph; TensorRT keeps no order of outputs."""
    expected = [*_INPUTS, KERNEL_NAME] if info.kernel_size is not None else _INPUTS
    if sorted(inputs) != sorted(expected) or sorted(outputs) != sorted(_OUTPUTS):
        raise ArtefactError(f"{path} takes {', '.join(inputs)}, which is no graph for --exact.", _AGAIN)


def passes_before(plan: TilePlan, info: EngineInfo) -> int:
    """Return how many passes find the means: none where one tile is the whole image, continued where ``info`` asks."""
    whole = info.tile is None or (plan.rows[0].size, plan.columns[0].size) == plan.tile
    return 0 if whole and plan.tile_count == 1 else PASSES


def with_image_means(
    backend: ExactBackend, image: Pixels, plan: TilePlan, on_tiles: Callable[[int], None] | None = None
) -> ExactBackend:
    """Find the means over the whole image, and return the network that uses them.

    Args:
        backend: the network.
        image: (H, W, 3) uint8 or uint16.
        plan: made for this image's size and this network.
        on_tiles: called with the number of tiles just done, ``PASSES`` times all of them.

    Raises:
        ArtefactError: the network failed, or gave NaN or infinity.
    """
    if not passes_before(plan, backend.info):
        return backend
    ends = (plan.rows[-1].keep_stop, plan.columns[-1].keep_stop)
    if backend.info.tile is None:  # the whole image, too, would be computed with what continues it
        ends = (backend.info.taken_side(ends[0]), backend.info.taken_side(ends[1]))
    elif ends[0] < plan.tile[0] or ends[1] < plan.tile[1]:
        _log.warning(
            "The image is smaller than the engine's tile of %dx%d and is continued by mirroring: its borders are not "
            "exact. The .onnx takes any size.", *plan.tile,
        )  # fmt: skip
    parts = [(row, column) for row in _parts(plan.rows, ends[0]) for column in _parts(plan.columns, ends[1])]

    def tiles() -> Iterator[tuple[Pixels, Pixels]]:
        for (row, top, bottom), (column, left, right) in parts:
            kept = [top - row.start, left - column.start, bottom - row.start, right - column.start]
            yield input_tile(backend, image, plan.tile, row, column)[None], np.array(kept, np.int64)

    areas = [(bottom - top) * (right - left) for (_, top, bottom), (_, left, right) in parts]
    for _ in range(PASSES):
        total: Any = 0.0
        for means, area in zip(backend.seen_means(tiles()), areas, strict=True):
            total += means.astype(np.float64) * area
            if on_tiles is not None:
                on_tiles(1)
        if not np.isfinite(total).all():
            raise ArtefactError(
                "the network gave NaN or infinity for this image.", "Use an fp32 engine of the same checkpoint."
            )
        backend = backend.with_means((total / sum(areas)).astype(np.float32))
    return backend


def _parts(spans: tuple[Span, ...], end: int) -> list[tuple[Span, int, int]]:
    """Return for each tile along one axis the pixels that count as its own: all up to ``end``, none of them twice."""
    edges = [0, *(span.keep_start + span.ramp // 2 for span in spans[1:]), end]
    return [(span, *edge) for span, edge in zip(spans, pairwise(edges), strict=True)]
