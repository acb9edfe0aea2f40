"""The network of an engine, and the two that stand in for it: for 16-bit images, and where FP16 overflows."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.contract import Backend, Pixels
from drc_deploy.runtime.memory.heap import give_back_freed
from drc_deploy.runtime.tiling.exact import ExactBackend, passes_before, with_image_means
from drc_deploy.runtime.tiling.rescue import Rescue
from drc_deploy.runtime.tiling.strips import upscaled_strips
from drc_deploy.runtime.tiling.tiles import TilePlan


class Networks:
    """Chooses the network for an image, and runs it over the tiles.

    Attributes:
        main: The network of the engine.
        rescue: Recomputes its tiles that overflow in half precision.
        float32: The variant for 16-bit images; None until one came.
    """

    def __init__(
        self,
        main: Backend,
        open_float: Callable[[], Backend] | None = None,
        open_rescue: Callable[[], Backend] | None = None,
    ) -> None:
        """Take ``main``, which is closed together with this object; see ``Upscaler`` for the others."""
        self.main, self.rescue = main, Rescue(open_rescue)
        self.float32: Backend | None = None
        self._open_float = open_float

    def for_dtype(self, dtype: np.dtype[Any], before_loading: Callable[[], None]) -> Backend:
        """Return the network for samples of ``dtype``; 16 bits never pass through an 8-bit network.

        Args:
            dtype: uint8 or uint16.
            before_loading: called before a second network is loaded, which takes memory.

        Raises:
            ArtefactError: there is none for 16 bits.
        """
        if dtype == np.uint8 or self.main.info.io_dtype == "float32":
            return self.main
        if self.float32 is None:
            if self._open_float is None:
                raise ArtefactError(
                    "this network takes 8-bit samples only and the image has 16.", "Use a float32 engine."
                )
            before_loading()
            self.float32 = self._open_float()
            give_back_freed()
        return self.float32

    def upscale(
        self, backend: Backend, image: Pixels, plan: TilePlan, on_tiles: Callable[[int], None] | None
    ) -> Iterator[Pixels]:
        """Upscale (H, W, 3) with ``backend``, one of these networks; see ``upscaled_strips``."""
        if isinstance(backend, ExactBackend):
            return upscaled_strips(with_image_means(backend, image, plan, on_tiles), image, plan, on_tiles)
        # Only the engine itself may be in half precision: the variant for 16 bits computes in float32.
        half = backend is self.main and backend.info.precision in {"fp16", "bf16"}
        return upscaled_strips(backend, image, plan, on_tiles, self.rescue.mend if half else None)

    def passes(self, plan: TilePlan) -> int:
        """Return how often ``upscale`` runs every tile."""
        return 1 + passes_before(plan) if isinstance(self.main, ExactBackend) else 1

    def close(self) -> None:
        """Free all networks that are open."""
        for network in (self.main, self.rescue, self.float32):
            if network is not None:
                network.close()
