"""What is averaged where several pixels become one: samples or light, and colours only as far as they are visible."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drc_deploy.images.resize import round_half_up


@dataclass(frozen=True, slots=True)
class Averages:
    """Turns pixels into numbers whose weighted means are those of the image, and such means into pixels.

    Colours are weighed with their alpha: else the colour of transparent pixels, which nobody has chosen, would show at
    edges. Where nothing is visible, colours are averaged as they are.
    """

    dtype: np.dtype[Any]
    """uint8 or uint16."""
    channels: int
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    linear_light: bool = False
    """Whether colours are light, by the curve of sRGB; else they are the samples. Alpha is always the samples."""

    @property
    def most_numbers(self) -> int:
        """How many numbers are held for a sample at most: with alpha, colours are there as they are and weighed."""
        return 4 if self.channels in (2, 4) else 1

    def numbers(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """Return the numbers of pixels, (H, W, channels).

        Returns:
            (H, W, channels), or with alpha (H, W, 2 * channels - 1): weighed colours, alpha, colours.
        """
        if self.channels in (1, 3):
            return self._colours(pixels)
        colours, alpha = self._colours(pixels[:, :, :-1]), pixels[:, :, -1:].astype(np.float64)
        return np.concatenate([colours * alpha, alpha, colours], axis=2)

    def pixels(self, means: NDArray[np.float64]) -> NDArray[Any]:
        """Return the pixels, (H, W, channels), of means of such numbers; rounded half up."""
        if self.channels in (1, 3):
            return self._samples(means)
        weighed, weight, colours = np.split(means, [self.channels - 1, self.channels], axis=2)
        alpha = round_half_up(weight, self.dtype)
        colours = np.divide(weighed, weight, out=colours.copy(), where=alpha > 0)
        return np.concatenate([self._samples(colours), alpha], axis=2)

    def _colours(self, samples: NDArray[Any]) -> NDArray[np.float64]:
        return _light_of(self.dtype)[samples] if self.linear_light else samples.astype(np.float64)

    def _samples(self, colours: NDArray[np.float64]) -> NDArray[Any]:
        full = np.iinfo(self.dtype).max
        if self.linear_light:
            colours = full * encoded(np.clip(colours / full, 0, 1))
        return round_half_up(colours, self.dtype)


@lru_cache
def _light_of(dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Return the light of every sample of a type, as numbers of the same range."""
    full = np.iinfo(dtype).max
    return full * decoded(np.arange(full + 1) / full)


def decoded(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the light of sRGB samples, both in [0, 1] (IEC 61966-2-1)."""
    curved: NDArray[np.float64] = ((samples + 0.055) / 1.055) ** 2.4
    return np.where(samples <= 0.04045, samples / 12.92, curved)


def encoded(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sRGB samples of light, both in [0, 1] (IEC 61966-2-1)."""
    curved: NDArray[np.float64] = 1.055 * light ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, light * 12.92, curved)
