"""How far an engine's image is from what it should be: torch in float32, and its own image without tiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drc_deploy.metrics import PEAK, UInt8Image
from drc_deploy.runtime.backends.contract import Backend
from drc_deploy.runtime.tiling.tiles import plan_tiles
from drc_deploy.runtime.upscaler import Upscaler


@dataclass(frozen=True, slots=True)
class ImageDifference:
    """Between two 8-bit RGB images, or sets of them: all pixels, all channels."""

    psnr_db: float | None
    """None where there is no difference at all, for then it is infinite."""
    max_levels: int
    """Largest difference of a sample, in grey levels of 0 to 255."""
    differing_share: float
    """Part of the samples that differ."""


@dataclass(frozen=True, slots=True)
class TorchAgreement:
    """An engine's images against those of its checkpoint in torch, in float32 on the CPU and untiled."""

    difference: ImageDifference | None
    images: int
    note: str
    """Which checkpoint; where there is no difference given, why."""


@dataclass(frozen=True, slots=True)
class SeamError:
    """What cutting an image into tiles changes: an engine's tiled against its untiled image."""

    difference: ImageDifference | None
    tiles: int
    note: str
    """Which image and tiles; where there is no difference given, why."""


class DifferenceSum:
    """Adds up differences over images."""

    def __init__(self) -> None:
        self.images = 0
        self._squares, self._differing, self._samples, self._largest = 0.0, 0, 0, 0

    def add(self, image: UInt8Image, reference: UInt8Image) -> None:
        """Add two images of the same shape."""
        levels = np.abs(image.astype(np.int16) - reference)
        self.images += 1
        self._squares += float(np.square(levels, dtype=np.int64).sum())
        self._differing += int(np.count_nonzero(levels))
        self._samples += levels.size
        self._largest = max(self._largest, int(levels.max()))

    def total(self) -> ImageDifference:
        """Return the difference over all images together; at least one was added."""
        error = self._squares / self._samples
        psnr = 10 * float(np.log10(PEAK**2 / error)) if error > 0 else None
        return ImageDifference(psnr, self._largest, self._differing / self._samples)


def measure_seam(backend: Backend, image: UInt8Image) -> SeamError:
    """Upscale an image, which must be small enough for that, in one piece and in its quarters."""
    info = backend.info
    if info.tile is not None:
        height, width = info.tile
        return SeamError(None, 0, f"unavailable: the engine takes tiles of {width}x{height} only, never a whole image")
    sides: Sequence[int] = image.shape[:2]
    tile, whole_side = info.taken_side(-(-max(sides) // 2)), info.taken_side(max(sides))
    plan = plan_tiles(sides[0], sides[1], info, tile=tile)
    # Wrapped anew, not closed: the backend goes on.
    tiled, whole = (Upscaler(backend, tile=side)(image) for side in (tile, whole_side))
    found = DifferenceSum()
    found.add(tiled, whole)
    what = f"{sides[1]}x{sides[0]} pixels in {plan.tile_count} tiles against the same in one piece"
    return SeamError(found.total(), plan.tile_count, what)
