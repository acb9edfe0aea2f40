"""Small image files of known pixels, and photographs in memory."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from drc_deploy.train.data.photographs import Entry, Photographs, Placed, content_sha256


def noise(seed: int, height: int = 100, width: int = 120) -> NDArray[np.uint8]:
    """Return an RGB image that no other seed gives."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Write an image without loss and give its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[:, :, ::-1])
    return rgb


def write_many(folder: Path, count: int) -> list[NDArray[np.uint8]]:
    """Write ``count`` images of several sizes, named so that their order is that of the list."""
    return [write(folder / f"{seed:04}.png", noise(seed, 96 + seed, 120 - seed % 20)) for seed in range(count)]


def write_div2k(folder: Path) -> None:
    """Write a tree like that of DIV2K: HR and LR of a training and a validation set, each pixel its own."""
    for part, numbers in (("train", (1, 2)), ("valid", (801,))):
        for number in numbers:
            name = f"{number:04}"
            write(folder / f"DIV2K_{part}_HR" / f"{name}.png", noise(number, 201, 330))
            for factor in (2, 3, 4, 8):
                lr = noise(1000 * factor + number, 201 // factor, 330 // factor)
                write(folder / f"DIV2K_{part}_LR_bicubic" / f"X{factor}" / f"{name}x{factor}.png", lr)


def photographs_of(name: str, images: Sequence[NDArray[np.uint8]]) -> Photographs:
    """Join images, each (H, W, 3) uint8 RGB, in memory."""
    entries, offset = [], 0
    for index, image in enumerate(images):
        height, width = image.shape[:2]
        entries.append(Entry(str(index), content_sha256(image), Placed(offset, height, width)))
        offset += height * width
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]) if images else np.empty((0, 3), np.uint8)
    return Photographs(name, pixels, tuple(entries))
