"""PSNR and SSIM of one way of upscaling over a set of images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from drc_deploy import metrics
from drc_deploy.errors import ImageError
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.metrics import UInt8Image
from drc_deploy.pairs import Pair, PairSource

Upscale = Callable[[UInt8Image], UInt8Image]
"""(H, W, 3) uint8 RGB to (scale*H, scale*W, 3) uint8 RGB."""


@dataclass(frozen=True, slots=True)
class ImageQuality:
    """Scores of one image."""

    image: str
    psnr_y: float | None
    """dB; None when the result is identical to the reference, for then it is infinite."""
    ssim_y: float


@dataclass(frozen=True, slots=True)
class Quality:
    """Scores of a set of images."""

    psnr_y: float | None
    """Mean over the images in dB; None when one of them is infinite."""
    ssim_y: float
    images: int
    rows: tuple[ImageQuality, ...]


def upscale_bicubic(scale: int) -> Upscale:
    """Return the baseline of every comparison."""

    def upscale(image: UInt8Image) -> UInt8Image:
        height, width = image.shape[:2]
        return resize_bicubic(image, height * scale, width * scale, round_between=False)

    return upscale


def upscaled_pairs(upscale: Upscale, sources: Iterable[PairSource], scale: int) -> Iterator[tuple[Pair, UInt8Image]]:
    """Return each pair with its upscaled LR image, one at a time.

    Raises:
        ImageError: a pair cannot be used, or the result has another size than its reference.
    """
    for source in sources:
        pair = source.load(scale)
        result = upscale(pair.lr)
        if result.shape != pair.hr.shape:
            raise ImageError(
                f"{pair.name}: the result has shape {result.shape}, its reference {pair.hr.shape}.",
                "Give the scale of the network (`--scale`) and the LR folder that belongs to it.",
            )
        yield pair, result


def score_pair(pair: Pair, result: UInt8Image, scale: int) -> ImageQuality:
    """Score one result.

    Raises:
        ImageError: the image is too small to be scored.
    """
    try:
        scores = metrics.score(pair.hr, result, border=scale)
    except ValueError as error:
        raise ImageError(f"{pair.name} cannot be scored: {error}.", "Leave it out.") from error
    return ImageQuality(pair.name, scores.psnr_y, scores.ssim_y)


def summarise(rows: Sequence[ImageQuality]) -> Quality:
    """Return the means; ``rows`` is not empty."""
    return Quality(
        psnr_y=metrics.mean_psnr([row.psnr_y for row in rows]),
        ssim_y=sum(row.ssim_y for row in rows) / len(rows),
        images=len(rows),
        rows=tuple(rows),
    )
