"""Sets of images, and PSNR and SSIM of one way of upscaling over them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drc_deploy import metrics
from drc_deploy.errors import ImageError
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.locate import sample_images
from drc_deploy.metrics import UInt8Image
from drc_deploy.pairs import Pair, PairSource, Photograph, find_pairs

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


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Where the images for quality come from: a folder of pairs, or the photographs that ship with the package."""

    data: Path | None
    lr_folder: str | None
    """Folder of LR images inside ``data``; None means ``LRx`` and the scale."""

    @property
    def description(self) -> str:
        """Say where they come from."""
        if self.data is not None:
            return str(self.data)
        return f"photographs that ship with drc-deploy: {', '.join(path.stem for path in sample_images())}"

    @property
    def lr_made_by(self) -> str:
        """Say how the LR images came to be."""
        if self.data is not None:
            return f"files in {self.lr_folder}/" if self.lr_folder else "files in LRx and the scale, such as LRx4/"
        return "bicubic reduction with antialiasing, as MATLAB's imresize"

    def sources(self, scale: int) -> Sequence[PairSource]:
        """Return the pairs for a scale.

        Raises:
            InputError: the folder has no usable pairs.
        """
        if self.data is not None:
            return find_pairs(self.data, self.lr_folder or f"LRx{scale}", scale)
        return [Photograph(path) for path in sample_images()]


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
