"""What is averaged where several pixels become one: samples or light, and colours only as far as they are visible."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drc_deploy.images.resize import round_half_up

_HIDDEN = 2.0**-30
"""Weight of a transparent pixel's colour, as a share of an opaque one's: it counts only where nothing is visible."""


@dataclass(frozen=True, slots=True)
class Averages:
    """Turns pixels into numbers whose weighted means are those of the image, and such means into pixels.

    Colours are weighed with their alpha: else the colour of transparent pixels, which nobody has chosen, would show at
    edges.
    """

    dtype: np.dtype[Any]
    """uint8 or uint16."""
    channels: int
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    linear_light: bool = False
    """Whether colours are light, by the curve of sRGB; else they are the samples. Alpha is always the samples."""

    def numbers(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """Return the numbers, (H, W, channels), of pixels of that shape."""
        colours = _light_of(self.dtype)[pixels] if self.linear_light else pixels.astype(np.float64)
        if self.channels in (2, 4):
            weight = pixels[:, :, -1] + self._hidden
            colours *= weight[:, :, None]
            colours[:, :, -1] = weight
        return colours

    def pixels(self, means: NDArray[np.float64]) -> NDArray[Any]:
        """Return the pixels, (H, W, channels), of such means; rounded half up."""
        means, full = means.copy(), np.iinfo(self.dtype).max
        colours = means
        if self.channels in (2, 4):
            colours, weight = means[:, :, :-1], means[:, :, -1:]
            with np.errstate(over="ignore"):  # where weights cancel out nothing is visible
                np.divide(colours, weight, out=colours, where=weight != 0)
            weight -= self._hidden
        if self.linear_light:
            colours[:] = full * encoded(np.clip(colours / full, 0, 1))
        return round_half_up(means, self.dtype)

    @property
    def _hidden(self) -> float:
        return _HIDDEN * np.iinfo(self.dtype).max


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
