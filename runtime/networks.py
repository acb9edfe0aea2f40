"""The network of an engine and those that stand in for it: for 16-bit images, blur kernels, and where FP16 overflows.

They are kept within a memory: each image is planned, and memory of earlier images is freed where the next needs it.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.runtime.backends.contract import Backend, Pixels
from drc_deploy.runtime.backends.open import whole_number
from drc_deploy.runtime.memory.heap import give_back_freed
from drc_deploy.runtime.memory.host import MemoryBudget, available_bytes, free_budget, mib, resident_bytes
from drc_deploy.runtime.tiling.exact import ExactBackend, with_image_means
from drc_deploy.runtime.tiling.memory_plan import AROUND_BYTES, GAPS, Fitted, Images, fit_plan, session_bytes
from drc_deploy.runtime.tiling.rescue import Rescue
from drc_deploy.runtime.tiling.strips import Mend, upscaled_images, upscaled_strips
from drc_deploy.runtime.tiling.tiles import TilePlan, plan_tiles


class Networks:
    """Chooses the network for an image, makes room for it, and runs it over the tiles.

    Attributes:
        main: The network of the engine.
        rescue: Recomputes its tiles that overflow in half precision.
        float32: The variant for 16-bit images; None until one came.
        limit: Bytes that the process may hold; None: no limit, or none that can be planned for.
    """

    def __init__(
        self,
        main: Backend,
        open_float: Callable[[], Backend] | None,
        open_rescue: Callable[[], Backend] | None,
        budget: MemoryBudget | None,
        open_parts: Callable[[bool], Backend] | None,
    ) -> None:
        """Take ``main``, which is closed together with this object; see ``Upscaler`` for the others."""
        self.main = main
        self.rescue = Rescue(open_rescue, partial(open_parts, True) if open_rescue and open_parts else open_rescue)
        self.float32: Backend | None = None
        self._open_float, self._budget = open_float, budget
        self._parts: Backend | None = None
        self._open_parts = open_parts
        self._cores = main.workers  # before anything lowers it
        self.limit = budget.limit if budget and _is_planned(main) else None
        self._several: list[Backend] = []
        """Networks that have computed several tiles at a time, in a second session."""
        self._kept = 0
        """Bytes that the largest tiles took since memory was last given back."""
        self._kept_tiles: set[tuple[int, int]] = set()
        """Sizes of all those tiles."""

    def share_memory(self, sharers: int) -> None:
        """Take one of ``sharers`` equal shares of the memory allowed from now on, for as many processes like this."""
        if self._budget:
            loaded = self._budget.loaded
            self._budget = MemoryBudget(loaded + (self._budget.limit - loaded) // sharers, loaded)
            self.limit = self._budget.limit if _is_planned(self.main) else None

    def for_dtype(self, dtype: np.dtype[Any]) -> Backend:
        """Return the network for samples of ``dtype``, uint8 or uint16; 16 bits never pass through an 8-bit network.

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
            self.give_back()  # loading it takes memory too
            self.float32 = self._open_float()
            give_back_freed()
        return self.float32

    @property
    def takes_kernels(self) -> bool:
        """Whether ``with_kernels`` returns a network."""
        return self._open_parts is not None or self.main.takes_kernels

    def with_kernels(self) -> Backend:
        """Return the blind network that kernels can be asked of and given to, for samples of any type.

        Raises:
            ArtefactError: its parts cannot be opened.
        """
        if self._open_parts is None:
            return self.main
        if self._parts is None:
            self.give_back()  # loading it takes memory too
            self._parts = self._open_parts(False)
            give_back_freed()
        return self._parts

    def fit(
        self,
        backend: Backend,
        images: Images,
        also_held: int,
        *,
        tile: int | None,
        overlap: int | None,
    ) -> Fitted:
        """Plan images for ``backend``; see ``Upscaler.fit`` and ``fit_plan``."""
        info = backend.info
        if info.tile is None and self.main.info.tile is not None:  # parts take any size, and get the tiles of the whole
            info = dataclasses.replace(info, tile=self.main.info.tile)
        if self._budget is None or not _is_planned(backend) or info.tile is not None:
            plan = plan_tiles(images.height, images.width, info, tile=tile, overlap=overlap)
            return Fitted(plan, self._cores, images.at_a_time(plan, self._cores), None)
        budget = MemoryBudget(self._budget.limit, self._budget.loaded + also_held + self._more_sessions(backend))
        return fit_plan(images, info, budget, self._cores, tile=tile, overlap=overlap)

    def check_room(self, needed: int, what: str) -> None:
        """Refuse ``what``, which takes ``needed`` bytes, such as reading an image, where the memory is too little.

        Raises:
            UsageError: it is.
        """
        if self._budget is None or self.limit is None:
            if needed > (available_bytes() or needed):
                raise UsageError(f"{what} needs more memory than there is.", "Cut the image into parts.")
            return
        total = self._budget.loaded + needed + self._more_sessions(None) + AROUND_BYTES
        if total > self.limit:
            raise UsageError(
                f"{what} needs {mib(total)} MiB, more than the {mib(self.limit)} MiB allowed.",
                f"Give --max-memory {mib(total)}MiB or more, or cut the image into parts.",
            )

    def prepare(self, backend: Backend, fitted: Fitted) -> None:
        """Make room for what ``backend`` upscales as ``fitted`` says."""
        backend.use_workers(fitted.workers)
        if fitted.at_a_time > 1 and backend not in self._several:
            self._several.append(backend)
            self.give_back()  # loading the second session takes memory too
        unused = max(self._kept - fitted.computing, 0)
        # One after the other, equal tiles lie where those before lay; several at a time leave ever more gaps.
        orderly = fitted.workers == 1 and self._kept_tiles <= {fitted.plan.tile}
        gaps = 0 if orderly else int(GAPS * min(self._kept, fitted.computing))
        if fitted.peak is not None and self._budget and fitted.peak + unused + gaps > self._budget.limit:
            self.give_back()
        # Libraries keep the memory of the largest tiles for more like them: it counts until it is given back.
        self._kept = max(self._kept, fitted.computing)
        self._kept_tiles.add(fitted.plan.tile)

    def give_back(self) -> None:
        """Free memory that was taken for earlier images and is kept for more like them."""
        for backend in filter(None, (self.main, self.float32, self._parts)):
            backend.give_back()
        self._kept = 0
        self._kept_tiles.clear()

    def _more_sessions(self, backend: Backend | None) -> int:
        """Return the bytes of the sessions that were opened after the budget was made, for others than ``backend``."""
        others = [other for other in self._several if other is not backend]
        others += filter(None, (self.float32, self._parts))
        return sum(each.sessions * session_bytes(each.info) for each in others)

    def upscale(
        self,
        backend: Backend,
        image: Pixels,
        plan: TilePlan,
        on_tiles: Callable[[int], None] | None,
        kernel: Pixels | None,
    ) -> Iterator[Pixels]:
        """Upscale (H, W, 3) with ``backend``, one of these networks; see ``upscaled_strips``.

        ``kernel`` is the blur kernel that a blind network uses for all tiles, (k, k) float32; None: each tile's own.
        """
        mend = self._mend(backend, kernel)
        if kernel is not None:
            backend = backend.with_kernel(kernel)
        if isinstance(backend, ExactBackend):
            return upscaled_strips(with_image_means(backend, image, plan, on_tiles), image, plan, on_tiles)
        return upscaled_strips(backend, image, plan, on_tiles, mend)

    def upscale_many(self, backend: Backend, images: Iterable[Pixels], plan: TilePlan) -> Iterator[Pixels]:
        """Upscale many (H, W, 3) of one size with ``backend``, which asks nothing of a whole image first.

        See ``upscaled_images``.
        """
        return upscaled_images(backend, images, plan, self._mend(backend, None))

    def _mend(self, backend: Backend, kernel: Pixels | None) -> Mend | None:
        half = backend.info.precision in {"fp16", "bf16"} and backend is not self.float32  # which computes in float32
        return partial(self.rescue.mend, kernel=kernel) if half else None

    def close(self) -> None:
        """Free all networks that are open."""
        for network in (self.main, self.rescue, self.float32, self._parts):
            if network is not None:
                network.close()


def _is_planned(backend: Backend) -> bool:
    """Whether the memory of a network is known before it runs."""
    info = backend.info
    return info.cpu_bytes_per_pixel is not None and info.tile is None and "CPU" in backend.device


def budget_for(backend: Backend, max_memory: int | None) -> MemoryBudget | None:
    """Return what an upscaler may take: ``max_memory`` bytes, or a share of what is free.

    Raises:
        UsageError: ``max_memory`` is no number of bytes, or the memory that the network needs is not known.
    """
    max_memory = whole_number("max_memory", max_memory, least=1)
    give_back_freed()  # or what loading has left would count as held
    if max_memory is None:
        return free_budget()
    loaded = resident_bytes()
    if not _is_planned(backend) or loaded is None:
        raise UsageError(
            "the memory that this engine takes is not known before it runs.",
            "Leave out --max-memory and give a smaller --tile, or run an .onnx that this version exported, on a CPU.",
        )
    return MemoryBudget(max_memory, loaded)
