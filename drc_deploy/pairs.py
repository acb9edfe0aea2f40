"""High-resolution images with their low-resolution versions: what quality is measured on.

A folder of pairs holds ``HR/`` and one folder per way of making low-resolution images, such as ``LRx4/``. The
files of a pair have the same stem, or the LR file adds the scale (``baby.png`` and ``babyx4.png``).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from drc_deploy.errors import ImageError, InputError
from drc_deploy.images.finding import IMAGE_SUFFIXES, is_image_file
from drc_deploy.images.reading import read_rgb
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.metrics import UInt8Image

HR_FOLDER = "HR"


@dataclass(frozen=True, slots=True)
class Pair:
    """One image at two sizes, both (H, W, 3) uint8 RGB; HR is exactly ``scale`` times as large as LR."""

    name: str
    hr: UInt8Image
    lr: UInt8Image


@dataclass(frozen=True, slots=True)
class PairFiles:
    """Two files."""

    hr_path: Path
    lr_path: Path

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.hr_path.stem

    def load(self, scale: int) -> Pair:
        """Read both files and crop HR at the bottom and right to ``scale`` times LR.

        Raises:
            ImageError: a file is no image, or the sizes do not belong together.
        """
        hr, lr = read_rgb(self.hr_path), read_rgb(self.lr_path)
        height, width = lr.shape[0] * scale, lr.shape[1] * scale
        if not (0 <= hr.shape[0] - height < scale and 0 <= hr.shape[1] - width < scale):
            raise ImageError(
                f"{self.hr_path} is {_size(hr)} and {self.lr_path} is {_size(lr)}: that is not {scale} times as large.",
                "Give the scale and the LR folder that belong together (`--scale`, `--lr-dir`).",
            )
        return Pair(self.name, hr[:height, :width], lr)


@dataclass(frozen=True, slots=True)
class Photograph:
    """One file, whose low-resolution version is made by bicubic reduction."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.path.stem

    def load(self, scale: int) -> Pair:
        """Read the file, crop it to a multiple of ``scale`` and reduce it.

        Raises:
            ImageError: it is no image, or too small.
        """
        hr = read_rgb(self.path)
        height, width = hr.shape[0] // scale, hr.shape[1] // scale
        if min(height, width) < 1:
            raise ImageError(f"{self.path} is {_size(hr)}: too small to reduce by {scale}.", "Leave it out.")
        hr = hr[: height * scale, : width * scale]
        return Pair(self.name, hr, resize_bicubic(hr, height, width))


PairSource: TypeAlias = PairFiles | Photograph
"""A pair that is not read yet."""


def find_images(folder: Path, name: str) -> dict[str, Path]:
    """Return the images directly in ``folder/name`` by their stems.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    path = folder / name
    if not path.is_dir():
        found = sorted(item.name for item in folder.glob("*/"))
        raise InputError(
            f"there is no folder {path}.",
            f"{folder} must hold {HR_FOLDER}/ and one such as LRx4/; it holds {', '.join(found) or 'no folders'}.",
        )
    images = sorted(item for item in path.iterdir() if is_image_file(item))
    if not images:
        raise InputError(f"{path} holds no images.", f"Known are {', '.join(sorted(IMAGE_SUFFIXES))}.")
    return _by_name(images, [item.stem for item in images])


def _by_name(paths: Iterable[Path], names: Iterable[str]) -> dict[str, Path]:
    """Return ``paths`` by their names.

    Raises:
        InputError: two have the same one, so that one of them would be left out unseen.
    """
    found: dict[str, Path] = {}
    for name, path in zip(names, paths, strict=True):
        if name in found:
            raise InputError(f"{found[name]} and {path} are both the image {name!r}.", "Leave one of them out.")
        found[name] = path
    return found


def find_pairs(folder: Path, lr_folder: str, scale: int) -> list[PairFiles]:
    """Find the pairs in ``folder/HR`` and ``folder/<lr_folder>``, in the order of their names.

    Raises:
        InputError: a folder is missing or holds no images, or an image has no partner.
    """
    hr_paths = find_images(folder, HR_FOLDER)
    lr_paths = find_images(folder, lr_folder)
    names = [stem if stem in hr_paths else stem.removesuffix(f"x{scale}") for stem in lr_paths]
    lr_paths = _by_name(lr_paths.values(), names)
    alone = sorted(hr_paths.keys() ^ lr_paths.keys())
    if alone:
        raise InputError(
            f"{len(alone)} of the images in {folder / HR_FOLDER} and {folder / lr_folder} have no partner: "
            f"{', '.join(alone[:5])}{', ...' if len(alone) > 5 else ''}.",
            "Give the files of a pair the same name.",
        )
    return [PairFiles(hr_paths[stem], lr_paths[stem]) for stem in sorted(hr_paths)]


def _size(image: UInt8Image) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
