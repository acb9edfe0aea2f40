"""One image in, one image out: any size, grey or colour, with or without alpha, 8 or 16 bit."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from drc_deploy.engine_info import EngineInfo, Precision
from drc_deploy.errors import ImageError, UsageError
from drc_deploy.images.blur import Blur
from drc_deploy.runtime.backends.contract import Backend, Pixels
from drc_deploy.runtime.backends.open import open_backend, whole_number
from drc_deploy.runtime.companions import float32_opener, open_exact_variant, open_float_variant, parts_opener
from drc_deploy.runtime.live import LiveFrame, upscaled_live
from drc_deploy.runtime.memory.host import MemoryBudget
from drc_deploy.runtime.networks import Networks, budget_for
from drc_deploy.runtime.tiling.channels import AlphaKind, alpha_kind, split_alpha, upscaled_channels
from drc_deploy.runtime.tiling.exact import OVERLAP_PX, ExactBackend, passes_before
from drc_deploy.runtime.tiling.image_kernel import estimate_kernel
from drc_deploy.runtime.tiling.memory_plan import Fitted, Images
from drc_deploy.runtime.tiling.tiles import TilePlan, plan_tiles

_LARGE_PX = 1 << 12
"""Side of an image that surely takes several tiles."""


@dataclass(frozen=True, slots=True)
class ImageTask:
    """An image and all that is decided before its first tile: made once, by ``Upscaler.task``, and handed on."""

    image: Pixels
    """As read: 1 to 4 channels, uint8 or uint16."""
    fitted: Fitted
    """Its tiles, how many are computed at a time, and the memory that they take."""
    alpha: AlphaKind
    tile_count: int
    """Tiles that the network is run on: of an alpha that varies too, for ``--exact`` more than once, and once more to
    estimate the blur kernel."""
    backend: Backend
    """What computes it."""
    estimates_kernel: bool
    """Whether the blur kernel of the image is estimated before its first tile."""


class Upscaler:
    """A network with everything around it that turns an image into an image.

    ``upscaler(image)`` returns the whole result; ``upscaler.strips(image)`` yields it in strips, for images that
    should not lie in memory whole.

    Open it in the process that uses it: a child of ``os.fork`` has none of the threads of the library that computes,
    and would wait for them for ever. There, and when it is closed, an image is a UsageError.

    Attributes:
        networks: What computes, within the memory allowed.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        tile: int | None = None,
        overlap: int | None = None,
        open_float: Callable[[], Backend] | None = None,
        open_rescue: Callable[[], Backend] | None = None,
        open_parts: Callable[[bool], Backend] | None = None,
        budget: MemoryBudget | None = None,
    ) -> None:
        """Wrap ``backend``, which is closed together with this object.

        Args:
            backend: the network.
            tile: largest side of a tile in input pixels, for networks that take any size; see ``plan_tiles``.
            overlap: context on each side of a tile in input pixels.
            open_float: opens the float32 variant of the same network, when a 16-bit image needs it.
            open_rescue: opens the same network computed in float32, when a tile overflows in half precision.
            open_parts: opens the parts of the same blind network, when an image needs several tiles, has an alpha, 16
                bits or a known blur; with True, on the CPU. None: ``backend`` takes kernels itself, or each tile gets
                its own.
            budget: memory to keep within; None: no limit. Only a network whose need was measured can be planned for.

        Raises:
            UsageError: ``tile`` or ``overlap`` is no number of pixels, they do not go together, or the network takes
                tiles of another size.
        """
        tile, overlap = whole_number("tile", tile, least=1), whole_number("overlap", overlap, least=0)
        if overlap is None and isinstance(backend, ExactBackend):
            overlap = OVERLAP_PX
        self._process, self._closed = os.getpid(), False
        self._worker = ThreadPoolExecutor(1, "upscaler")  # which it starts when something is awaited first
        self._tile, self._overlap = tile, overlap
        self._blur: Blur | None = None
        self._given: Pixels | None = None
        """What that blur is in input pixels."""
        self.networks = Networks(backend, open_float, open_rescue, budget, open_parts)
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
            exact: compute as the untiled network would, to one grey level, in three times the time. With ``NAME.onnx``
                this runs ``NAME.exact.onnx``, with ``NAME.plan`` ``NAME.exact.plan``, or else the exact ONNX.
            max_memory: bytes that the process may take; None: half of what is free. Tiles become smaller and fewer at
                a time to keep within it. For a checkpoint, or an ONNX of any size, on a CPU.
            precision: of the body of a checkpoint's network; None: fp32.
        """
        path, threads = Path(path), whole_number("threads", threads, least=1)
        opened = open_exact_variant if exact else open_backend
        backend = opened(path, threads=threads, precision=precision)
        path = path.absolute()  # its companions are opened later, perhaps after an `os.chdir`

        try:
            return cls(
                backend,
                tile=tile,
                overlap=overlap,
                open_float=partial(open_float_variant, path, backend.info, threads),
                open_rescue=float32_opener(path, backend, threads),
                open_parts=parts_opener(path, backend, threads),
                budget=budget_for(backend, max_memory),
            )
        except UsageError:
            backend.close()
            raise

    @property
    def info(self) -> EngineInfo:
        """Description of the network."""
        return self.backend.info

    @property
    def backend(self) -> Backend:
        """The network itself, for 8-bit images."""
        return self.networks.main

    @property
    def device(self) -> str:
        """The device that computes."""
        return self.backend.device

    def plan(self, height: int, width: int, dtype: DTypeLike = np.uint8) -> TilePlan:
        """Plan the tiles for an image of ``height`` x ``width`` pixels with samples of ``dtype``."""
        return self.fit(Images(height, width, dtype)).plan

    def fit(self, images: Images, *, also_held: int = 0) -> Fitted:
        """Plan tiles and how many are computed at a time, and predict the memory that this takes.

        Args:
            images: What is upscaled; its alpha counts where it is not the same everywhere.
            also_held: Bytes that the process takes meanwhile for something else, such as reading the next image.

        Raises:
            UsageError: the memory allowed is too little.
        """
        return self._choose(images, also_held)[1]

    def _choose(self, images: Images, also_held: int) -> tuple[Backend, Fitted]:
        """Return the network for images, and their tiles. Of a blind network it is the whole where one tile is all."""
        self._check_open()
        networks = self.networks
        fit = partial(networks.fit, images=images, also_held=also_held, tile=self._tile, overlap=self._overlap)
        if not networks.takes_kernels:
            backend = networks.for_dtype(np.dtype(images.dtype))
            return backend, fit(backend)
        deep = np.dtype(images.dtype) != np.uint8 and networks.main.info.io_dtype == "uint8"
        if self._given is None and not images.alpha and not deep:
            fitted = fit(networks.main)
            if fitted.plan.tile_count == 1:
                return networks.main, fitted
        backend = networks.with_kernels()
        return backend, fit(backend)

    def task(self, image: Pixels, *, also_held: int = 0) -> ImageTask:
        """Decide how to upscale ``image``; errors as for ``__call__``, ``also_held`` as for ``fit``."""
        _checked_image(image)
        if self._blur and self._blur.lr_side > min(image.shape[:2]):
            raise ImageError(
                f"an image of {image.shape[1]}x{image.shape[0]} pixels is smaller than the blur kernel, which spans "
                f"{self._blur.lr_side} of them.",
                "Leave the image out, or let its kernel be estimated.",
            )
        kind = alpha_kind(image)
        images = Images(image.shape[0], image.shape[1], image.dtype, alpha=kind == "varying")
        backend, fitted = self._choose(images, also_held)
        tiles = fitted.plan.tile_count
        passes = 1 + passes_before(fitted.plan, self.info) if isinstance(self.backend, ExactBackend) else 1
        passes *= 2 if kind == "varying" else 1  # colours and alpha are upscaled one after the other
        # Where one tile is all that there is, the network estimates its kernel while it upscales it.
        estimates = self._given is None and self.networks.takes_kernels and passes * tiles > 1
        return ImageTask(image, fitted, kind, tiles * (passes + estimates), backend, estimates_kernel=estimates)

    def use_blur(self, blur: Blur) -> None:
        """Take ``blur`` for that of all images from now on, instead of estimating that of each.

        Raises:
            UsageError: the network is for another scale, is not blind, or was opened without its parts.
        """
        info = self.info
        if info.kernel_size is None or not self.networks.takes_kernels:
            raise UsageError(f"{info.model} takes no blur kernel here.", "Give a blind network, such as dcls.")
        if blur.scale != info.scale:
            raise UsageError(
                f"the kernel is for x{blur.scale}, and {info.model} for x{info.scale}.", "Give one of both."
            )
        self._blur, self._given = blur, blur.as_lr_kernel(info.kernel_size)

    def kernel(self, image: Pixels) -> Pixels | None:
        """Return the blur kernel that an image is upscaled by; None where no network here takes one.

        Returns:
            (k, k) float32 of sum 1, in input pixels: see ``Blur.as_lr_kernel``.

        Raises:
            ImageError, ArtefactError, UsageError: as for ``__call__``.
        """
        task = self.task(image)
        if self._given is not None or not self.networks.takes_kernels:
            return self._given
        backend = self.networks.with_kernels()
        self.networks.prepare(backend, task.fitted)
        return estimate_kernel(backend, split_alpha(image)[0], task.fitted.plan)

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
        return self._whole(image)

    def _whole(self, image: Pixels, on_tiles: Callable[[int], None] | None = None) -> Pixels:
        strips = list(self.strips(image, on_tiles))
        return strips[0] if len(strips) == 1 else np.concatenate(strips)

    async def upscale_async(self, image: Pixels) -> Pixels:
        """Upscale an image in a thread, while other tasks of the event loop go on; as ``__call__``.

        Several images are computed one after the other, in the order in which they came. Where the task is cancelled,
        its image is not begun, or left after the tiles under way. Do not use this object for anything else meanwhile.
        """
        from drc_deploy.runtime.stopping import Stop, awaited  # asyncio takes a while to import

        stop = Stop()

        def check(_: int) -> None:
            self._check_open()
            stop.check()

        self._check_open()
        with awaited(self._worker.submit(self._whole, image, check), stop, "the task was cancelled.") as result:
            return await result

    def stream(self, images: Iterable[Pixels]) -> Iterator[Pixels]:
        """Upscale many images, such as the frames of a video; as ``__call__`` for each, in order.

        Of RGB images of one size that follow each other, several are computed at a time, on a CPU each by one core,
        and some more are taken ahead: an array must not change before its result has come. Do not use this object for
        anything else until the stream has ended.
        """
        checked = map(_checked_image, images)
        alike = groupby(checked, key=lambda image: (image.shape, image.dtype))
        return _Checked(chain.from_iterable(self._upscaled_alike(group) for _, group in alike), self._check_open)

    def live(
        self, frames: Iterable[Pixels], *, waiting: int = 2, drop: bool = True
    ) -> Generator[LiveFrame, None, None]:
        """Upscale frames that come when they come, such as those of a camera; each as ``__call__``, in order.

        ``frames`` is read by a thread of its own, as fast as frames come, and may give one array again and again.
        A result is not held back for frames that are still to come. Close the iterator when leaving it early
        (``contextlib.closing``): then ``frames``, if it is a generator, is closed too, once it has given the frame
        that it is being asked for. Do not use this object for anything else until then.

        Args:
            frames: As for ``stream``.
            waiting: Frames that may wait to be computed; with one for each core, a CPU computes several at a time.
            drop: Whether the oldest of more are dropped, so that results are of the latest frames. Else reading
                waits, and every frame has its result.

        Yields:
            Each result with the number of its frame.

        Raises:
            UsageError: ``waiting`` is no number of frames.
            Exception: what ``frames`` raised, when those before are done; and as ``__call__``.
        """
        most = whole_number("waiting", waiting, least=1)
        if most is None:
            raise UsageError("waiting is None: without a bound, frames fill the memory.", "Give a number.")
        return upscaled_live(self.stream, frames, most, drop=drop)

    def _upscaled_alike(self, images: Iterator[Pixels]) -> Iterator[Pixels]:
        first = next(images)
        images = chain([first], images)
        seen_whole = self.networks.takes_kernels or isinstance(self.backend, ExactBackend)
        if seen_whole or first.shape[2:] != (3,):
            return map(self, images)
        backend, fitted = self._choose(Images(first.shape[0], first.shape[1], first.dtype, stream=True), also_held=0)
        self.networks.prepare(backend, fitted)
        return self.networks.upscale_many(backend, images, fitted.plan)

    def strips(self, image: Pixels, on_tiles: Callable[[int], None] | None = None) -> Iterator[Pixels]:
        """Upscale an image from top to bottom; as ``__call__``, but in strips of rows that follow each other.

        ``on_tiles`` is called with the number of tiles just done.
        """
        return self.run(self.task(image), on_tiles)

    def run(self, task: ImageTask, on_tiles: Callable[[int], None] | None = None) -> Iterator[Pixels]:
        """Upscale the image of ``task``; as ``strips``. The tiles reported are ``task.tile_count`` in all."""
        self._check_open()
        backend = task.backend
        self.networks.prepare(backend, task.fitted)
        plan, kernel = task.fitted.plan, self._given
        if task.estimates_kernel:
            kernel = estimate_kernel(backend, split_alpha(task.image)[0], plan, on_tiles)
        upscale = partial(self.networks.upscale, backend, plan=plan, on_tiles=on_tiles, kernel=kernel)
        return _Checked(upscaled_channels(task.image, task.alpha, backend.info.scale, upscale), self._check_open)

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("this upscaler is closed.", "Open another one.")
        if self._process != os.getpid():
            raise UsageError("this upscaler was opened before a fork.", "Open one in the process that uses it.")

    def close(self) -> None:
        """Free the networks; no image can be upscaled any more, nor the rest of one."""
        self._closed = True
        self._worker.shutdown()  # what is awaited ends after the tiles under way
        self.networks.close()

    def __enter__(self) -> "Upscaler":
        self._check_open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Checked(Iterator[Pixels]):
    """Strips that are made only while a check allows it; none of them is held."""

    def __init__(self, strips: Iterator[Pixels], check: Callable[[], None]) -> None:
        self._strips, self._check = strips, check

    def __next__(self) -> Pixels:
        self._check()
        return next(self._strips)


def _checked_image(image: Pixels) -> Pixels:
    if not isinstance(image, np.ndarray):
        raise ImageError(f"the image is of type {type(image).__name__}, no array.", "Give np.asarray(image).")
    channel_count = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or image.size == 0 or channel_count > 4:
        raise ImageError(f"an array of shape {image.shape} is not an image.", "Give (H, W, 1 to 4).")
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"an image of {image.dtype} samples cannot be upscaled.", "Give uint8 or uint16.")
    return image
