"""A network small enough to reason about: what the tests of tiling and of the pipelines run on."""

import numpy as np

from drc_deploy.engine_info import EngineInfo, IoDtype
from drc_deploy.runtime.backends.contract import Backend, Pixels, check_batch


def fake_info(
    *,
    scale: int = 2,
    io_dtype: IoDtype = "uint8",
    tile: tuple[int, int] | None = None,
    max_batch: int = 1,
    receptive_field: int = 0,
    global_operations: bool = False,
) -> EngineInfo:
    """Describe a network without parameters."""
    return EngineInfo(
        model="fake",
        scale=scale,
        precision="fp32",
        io_dtype=io_dtype,
        tile=tile,
        max_batch=max_batch,
        receptive_field=receptive_field,
        global_operations=global_operations,
        params=0,
        widths=(),
        checkpoint_sha256="0" * 64,
    )


class FakeBackend(Backend):
    """A box filter that sees ``info.receptive_field`` pixels each way, then nearest-neighbour upscaling.

    Outside the tile it sees zeros, as a convolution with zero padding does: a result near the border of a
    tile is wrong unless that border is the border of the image. Sums of integers make it exact.
    """

    def __init__(self, info: EngineInfo) -> None:
        self._info = info
        self.calls: list[tuple[int, ...]] = []
        """Shape of every batch that was run."""
        self.closed = False

    @property
    def info(self) -> EngineInfo:
        """What was given."""
        return self._info

    @property
    def device(self) -> str:
        """A name that no real device has."""
        return "fake"

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch; see ``Backend.run``."""
        check_batch(batch, self._info)
        self.calls.append(batch.shape)
        reach = self._info.receptive_field
        filtered = _box_mean(batch.astype(np.float64), reach)
        if self._info.io_dtype == "uint8":
            filtered = np.floor(filtered + 0.5)
        enlarged = filtered.repeat(self._info.scale, axis=1).repeat(self._info.scale, axis=2)
        return enlarged.astype(batch.dtype)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


def _box_mean(batch: Pixels, reach: int) -> Pixels:
    """Mean over (2*reach + 1)^2 pixels with zeros outside."""
    side = 2 * reach + 1
    padded = np.pad(batch, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    mean: Pixels = windows.sum(axis=(-2, -1)) / side**2
    return mean
