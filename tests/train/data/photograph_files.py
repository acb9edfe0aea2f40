"""Small image files of known pixels."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


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
