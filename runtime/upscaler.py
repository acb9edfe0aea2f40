"""One image in, one image out: any size, grey or colour, with or without alpha, 8 or 16 bit."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from drc_deploy.engine_info import EngineInfo, Precision
from drc_deploy.errors import ArtefactError, ImageError, UsageError
from drc_deploy.runtime.backends.contract import Backend, GpuMemory, Pixels
from drc_deploy.runtime.backends.open import open_backend, whole_number
from drc_deploy.runtime.companions import float32_opener, open_exact_variant, open_float_variant
from drc_deploy.runtime.memory.heap import give_back_freed
from drc_deploy.runtime.memory.host import MemoryBudget, free_budget, resident_bytes
from drc_deploy.runtime.tiling import channels
from drc_deploy.runtime.tiling.exact import OVERLAP_PX, ExactBackend, passes_before, with_image_means
from drc_deploy.runtime.tiling.memory_plan import GAPS, Fitted, check_room, fit_plan, session_bytes
from drc_deploy.runtime.tiling.rescue import Rescue
from drc_deploy.runtime.tiling.strips import upscaled_strips
from drc_deploy.runtime.tiling.tiles import TilePlan, plan_tiles

_LARGE_PX = 1 << 12
"""Side of an image that surely takes several tiles."""


class Upscaler:
    """A network with everything around it that turns an image into an image.

    ``upscaler(image)`` gives the whole result, ``upscaler.strips(image)`` gives it row by row for images that
    should not lie in memory whole.

    Open it in the process that uses it: a child of ``os.fork`` has none of the threads of the library that computes,
    and would wait for them for ever. There, and when it is closed, an image is a UsageError.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        tile: int | None = None,
        overlap: int | None = None,
        open_float: Callable[[], Backend] | None = None,
        open_rescue: Callable[[], Backend] | None = None,
        budget: MemoryBudget | None = None,
    ) -> None:
        """Wrap ``backend``, which is closed together with this object.

        Args:
            backend: the network.
            tile: largest side of a tile in input pixels, for networks that take any size.
            overlap: context on each side of a tile in input pixels.
            open_float: opens the float32 variant of the same network, when a 16-bit image needs it.
            open_rescue: opens the same network computed in float32, when half precision breaks a tile.
            budget: memory to keep within; None: no limit. Only a network whose need was measured can be planned for.

        Raises:
            UsageError: ``tile`` or ``overlap`` is no number of pixels, they do not go together, or the network takes
                tiles of another size.
        """
        tile, overlap = whole_number("tile", tile, least=1), whole_number("overlap", overlap, least=0)
        self._backend = backend
        self._process, self._closed = os.getpid(), False
        if overlap is None and isinstance(backend, ExactBackend):
            overlap = OVERLAP_PX
        self._tile, self._overlap, self._budget = tile, overlap, budget
        self._cores = backend.workers
        self._open_float = open_float
        self._float_backend: Backend | None = None
        self._several: list[Backend] = []
        """Those that have computed several tiles at a time, in a second session."""
        self._kept = 0
        """Bytes that the largest tiles took since memory was last given back."""
        self._kept_tiles: set[tuple[int, int]] = set()
        """Sizes of all of them."""
        self._rescue = Rescue(open_rescue)
        # Finds impossible options before any image is read.
        plan_tiles(_LARGE_PX, _LARGE_PX, backend.info, tile=tile, overlap=overlap)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        tile: int | None = None,
        overlap: int | None = None,
        threads: int | None = None,
        exact: bool = False,
        max_memory: int | None = None,
        precision: Precision | None = None,
    ) -> "Upscaler":
        """Load an engine file; see ``open_backend`` for what can go wrong.

        Args:
            path: the engine.
            tile: as for the constructor.
            overlap: as for the constructor.
            threads: CPU threads; None leaves the choice to the library.
            exact: give what the untiled network would, to one grey level, in three times the time; of ``NAME.onnx``
                this runs ``NAME.exact.onnx``, of ``NAME.plan`` the ``NAME.exact.plan`` beside it, or else that ONNX.
            max_memory: bytes that the process may take; None: half of what is free. Tiles become smaller and fewer at
                a time to keep within it. For a checkpoint, or an ONNX of any size, on a CPU.
            precision: of the body of a checkpoint's network; None: fp32.
        """
        path, threads = Path(path), whole_number("threads", threads, least=1)
        opened = open_exact_variant if exact else open_backend
        backend = opened(path, threads=threads, precision=precision)
        path = path.absolute()  # what lies beside it is opened later, perhaps after an `os.chdir`

        def open_float() -> Backend:
            return open_float_variant(path, backend.info, threads)

        try:
            return cls(
                backend,
                tile=tile,
                overlap=overlap,
                open_float=open_float,
                open_rescue=float32_opener(path, backend, threads),
                budget=_budget(backend, max_memory),
            )
        except UsageError:
            backend.close()
            raise

    @property
    def info(self) -> EngineInfo:
        """What the network is."""
        return self._backend.info

    @property
    def backend(self) -> Backend:
        """The network itself, for 8-bit images."""
        return self._backend

    @property
    def device(self) -> str:
        """What computes."""
        return self._backend.device

    @property
    def gpu_memory(self) -> GpuMemory | None:
        """What a plan takes of the GPU; None for other engines."""
        return self._backend.gpu_memory

    @property
    def recomputed_tiles(self) -> int:
        """How many tiles half precision broke so far, so that they were computed again in float32."""
        return self._rescue.count

    def plan(self, height: int, width: int, dtype: DTypeLike = np.uint8) -> TilePlan:
        """Plan the tiles for an image of ``height`` x ``width`` pixels with samples of ``dtype``."""
        return self.fit(height, width, dtype).plan

    def fit(
        self, height: int, width: int, dtype: DTypeLike = np.uint8, *, alpha: bool = False, beside: int = 0
    ) -> Fitted:
        """Plan tiles and how many are computed at a time, and predict the memory that this takes.

        Args:
            height: of the image, in pixels.
            width: of the image, in pixels.
            dtype: of its samples.
            alpha: whether it has an alpha that is not the same everywhere.
            beside: bytes that the process takes meanwhile for something else, such as reading the next image.

        Raises:
            UsageError: the memory allowed is too little.
        """
        backend = self._backend_for(np.dtype(dtype))
        info = backend.info
        if self._budget is None or not _is_planned(backend):
            plan = plan_tiles(height, width, info, tile=self._tile, overlap=self._overlap)
            return Fitted(plan, self._cores, None)
        budget = MemoryBudget(self._budget.limit, self._budget.loaded + beside + self._more_sessions(backend))
        shape = height, width, 4 if alpha else 3
        return fit_plan(shape, dtype, info, budget, self._cores, tile=self._tile, overlap=self._overlap)

    def check_room(self, needed: int, what: str) -> None:
        """Refuse ``what``, which takes ``needed`` bytes, such as reading an image, where the memory is too little.

        Raises:
            UsageError: it is.
        """
        if self._budget is not None and _is_planned(self._backend):
            check_room(needed + self._more_sessions(None), self._budget, what)

    @property
    def room(self) -> int | None:
        """How many bytes this process may hold; None: no limit, or none that can be planned for."""
        return self._budget.limit if self._budget and _is_planned(self._backend) else None

    def give_back(self) -> None:
        """Free memory that was taken for earlier images and is kept for more like them."""
        for backend in filter(None, (self._backend, self._float_backend)):
            backend.give_back()
        self._kept = 0
        self._kept_tiles.clear()

    def _make_room(self, fitted: Fitted) -> None:
        """Free what other tiles left where the image does not fit beside it."""
        unused = max(self._kept - fitted.computing, 0)
        # One after the other, equal tiles lie where those before lay; several at a time leave ever more gaps.
        orderly = fitted.workers == 1 and self._kept_tiles <= {fitted.plan.tile}
        gaps = 0 if orderly else int(GAPS * min(self._kept, fitted.computing))
        if fitted.peak is not None and self._budget and fitted.peak + unused + gaps > self._budget.limit:
            self.give_back()
        self._kept = max(self._kept, fitted.computing)
        self._kept_tiles.add(fitted.plan.tile)

    def _more_sessions(self, backend: Backend | None) -> int:
        """Return the bytes of the sessions that were opened after the budget was made, for others than ``backend``."""
        others = [other for other in self._several if other is not backend]
        opened = [self._float_backend] if self._float_backend else []
        return sum(session_bytes(each.info) for each in (*opened, *others))

    def _fit_image(self, image: Pixels, beside: int) -> Fitted:
        return self.fit(image.shape[0], image.shape[1], image.dtype, alpha=_varying_alpha(image), beside=beside)

    def tile_count(self, image: Pixels, *, beside: int = 0) -> int:
        """Return the number of tiles of ``image``, all reported to ``on_tiles``; ``beside`` as for ``fit``."""
        _check_image(image)
        plan = self._fit_image(image, beside).plan
        passes = 1 + passes_before(plan) if isinstance(self._backend, ExactBackend) else 1
        return plan.tile_count * passes * (2 if _varying_alpha(image) else 1)

    def __call__(self, image: Pixels) -> Pixels:
        """Upscale an image.

        Args:
            image: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; uint8 or uint16.

        Returns:
            The same type and channels, ``info.scale`` times as high and wide.

        Raises:
            ImageError: it is no array, or no such image.
            ArtefactError: the network failed, gave NaN, or has no variant for 16 bits.
            UsageError: this object is closed or of another process, or the memory allowed is too little.
        """
        strips = list(self.strips(image))
        return strips[0] if len(strips) == 1 else np.concatenate(strips)

    def strips(
        self, image: Pixels, on_tiles: Callable[[int], None] | None = None, *, beside: int = 0
    ) -> Iterator[Pixels]:
        """Upscale an image from top to bottom; as ``__call__``, but in strips of rows that follow each other.

        ``on_tiles`` is told the number of tiles just done, ``tile_count(image)`` in all; ``beside`` as for ``fit``.
        """
        _check_image(image)
        backend = self._backend_for(image.dtype)
        fitted = self._fit_image(image, beside)
        plan = fitted.plan
        backend.use_workers(fitted.workers)
        if plan.tile_count >= fitted.workers > 1 and backend not in self._several:
            self._several.append(backend)
            self.give_back()  # loading the second session takes memory too
        self._make_room(fitted)
        colours, alpha = channels.split_alpha(image)
        finished = self._strips_of(colours, backend, plan, on_tiles)
        if image.ndim == 2 or image.shape[2] <= 2:
            finished = map(_as_grey_channel, finished)
        if alpha is not None and _varying_alpha(image):
            alphas = self._strips_of(channels.as_rgb(alpha), backend, plan, on_tiles)
            finished = _with_alphas(finished, _held(alphas, alpha, backend.info.scale))
        elif alpha is not None:
            finished = map(partial(_with_alpha, alpha=alpha[:1, :1]), finished)
        return _Checked(map(partial(_with_channels, shape=image.shape[2:]), finished), self._check_open)

    def _strips_of(
        self, image: Pixels, backend: Backend, plan: TilePlan, on_tiles: Callable[[int], None] | None
    ) -> Iterator[Pixels]:
        """Upscale (H, W, 3)."""
        if isinstance(backend, ExactBackend):
            return upscaled_strips(with_image_means(backend, image, plan, on_tiles), image, plan, on_tiles)
        half = backend.info.precision in {"fp16", "bf16"}
        mend = self._rescue.mend if half and backend is self._backend else None
        return upscaled_strips(backend, image, plan, on_tiles, mend)

    def _backend_for(self, dtype: np.dtype[Any]) -> Backend:
        """Return the network for samples of ``dtype``; 16 bits never pass through an 8-bit network."""
        self._check_open()
        if dtype == np.uint8 or self._backend.info.io_dtype == "float32":
            return self._backend
        if self._float_backend is None:
            if self._open_float is None:
                raise ArtefactError(
                    "this network takes 8-bit samples only and the image has 16.", "Use a float32 engine."
                )
            self.give_back()  # loading takes memory too
            self._float_backend = self._open_float()
            give_back_freed()
        return self._float_backend

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("this upscaler is closed.", "Open another one.")
        if self._process != os.getpid():
            raise UsageError("this upscaler was opened before a fork.", "Open one in the process that uses it.")

    def close(self) -> None:
        """Free the networks; no image can be upscaled any more, nor the rest of one."""
        self._closed = True
        self._backend.close()
        self._rescue.close()
        if self._float_backend is not None:
            self._float_backend.close()

    def __enter__(self) -> "Upscaler":
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Checked(Iterator[Pixels]):
    """Strips, each of which is made only if a check allows it; nothing of them is held."""

    def __init__(self, strips: Iterator[Pixels], check: Callable[[], None]) -> None:
        self._strips, self._check = strips, check

    def __next__(self) -> Pixels:
        self._check()
        return next(self._strips)


def _check_image(image: Pixels) -> None:
    if not isinstance(image, np.ndarray):
        raise ImageError(f"the image is of type {type(image).__name__}, no array.", "Give np.asarray(image).")
    channel_count = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or image.size == 0 or channel_count > 4:
        raise ImageError(f"an array of shape {image.shape} is not an image.", "Give (H, W, 1 to 4).")
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"an image of {image.dtype} samples cannot be upscaled.", "Give uint8 or uint16.")


def _as_grey_channel(rgb: Pixels) -> Pixels:
    return channels.as_grey(rgb)[:, :, None]


def _with_channels(strip: Pixels, shape: tuple[int, ...]) -> Pixels:
    return strip.reshape(*strip.shape[:2], *shape)


def _varying_alpha(image: Pixels) -> bool:
    """Return whether the network must look at the alpha: a constant one stays what it is."""
    if image.ndim != 3 or image.shape[2] not in (2, 4):
        return False
    alpha = image[:, :, -1]
    return bool((alpha != alpha[0, 0]).any())


def _held(strips: Iterator[Pixels], alpha: Pixels, scale: int) -> Iterator[Pixels]:
    """Return strips of alpha that was upscaled as a grey image, with what is opaque or clear held so."""
    edges = channels.AlphaEdges(alpha, scale)
    row = 0
    for grey in map(channels.as_grey, strips):
        row += len(grey)
        yield edges.hold(grey, row - len(grey))


def _with_alphas(colours: Iterator[Pixels], alphas: Iterator[Pixels]) -> Iterator[Pixels]:
    return map(_with_alpha, colours, alphas)  # which holds nothing of what it took


def _with_alpha(colours: Pixels, alpha: Pixels) -> Pixels:
    """Join (H, W, channels) and an alpha of (H, W), or of (1, 1) for all pixels."""
    alpha = np.broadcast_to(alpha, colours.shape[:2])
    return np.concatenate([colours, alpha[:, :, None]], axis=2)


def _is_planned(backend: Backend) -> bool:
    """Whether the memory of a network is known before it runs."""
    info = backend.info
    return info.cpu_bytes_per_pixel is not None and info.tile is None and "CPU" in backend.device


def _budget(backend: Backend, max_memory: int | None) -> MemoryBudget | None:
    """Return what an upscaler may take.

    Raises:
        UsageError: the limit is no number of bytes, or is asked for where the need is not known.
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
