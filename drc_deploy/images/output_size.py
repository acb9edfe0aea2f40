"""How large a result is to be: a factor, a side, or a frame that it fits into."""

from dataclasses import dataclass, replace
from fractions import Fraction

from drc_deploy.errors import ImageError, UsageError

_LARGEST = 10**9
"""Pixels along a side; no format of images holds more."""
_FINEST = 10**6
"""Factors are fractions of denominators up to this: 1.1 is eleven tenths, which no float is."""


@dataclass(frozen=True, slots=True)
class OutputSize:
    """The size of results. At most one field says what it is; with none, they are as large as the network makes them.

    The shape of the image stays as it is, up to half a pixel.
    """

    scale: float | None = None
    """Times as high and wide as the image."""
    width: int | None = None
    """In pixels; and so on below."""
    height: int | None = None
    max_side: int | None = None
    """Of the longer side. What the network makes smaller stays so."""
    fit: tuple[int, int] | None = None
    """Width and height of a frame: one side fills it, and the other fits into it."""

    def __post_init__(self) -> None:
        """Refuse more than one size.

        Raises:
            UsageError: there is more than one, or one that no image has.
        """
        if len(given := self._given) > 1:
            names = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"{names} both say how large results are.", "Give one of them, or --fit WxH for a frame.")
        for name, value in given.items():
            sides = value if isinstance(value, tuple) else (value,)
            if not all(0 < side <= _LARGEST for side in sides):  # nor NaN
                raise UsageError(f"no image has a {name.replace('_', ' ')} of {value}.", "Give a positive number.")

    @property
    def _given(self) -> dict[str, float | tuple[int, int]]:
        every = {name: getattr(self, name) for name in ("scale", "width", "height", "max_side", "fit")}
        return {name: value for name, value in every.items() if value is not None}

    def label(self, network_scale: int) -> str:
        """Return what names of results end with: ``x1.5``, ``w1920``, ``h1080``, ``max2048`` or ``1920x1080``."""
        if self.fit:
            return "{}x{}".format(*self.fit)
        for prefix, pixels in (("w", self.width), ("h", self.height), ("max", self.max_side)):
            if pixels is not None:
                return f"{prefix}{pixels}"
        return f"x{network_scale if self.scale is None else self.scale:g}"

    def turned(self) -> "OutputSize":
        """Return the size for an image that lies on its side and is turned when it is shown."""
        fit = self.fit and (self.fit[1], self.fit[0])
        return replace(self, width=self.height, height=self.width, fit=fit)

    def check(self, network_scale: int) -> None:
        """Refuse a factor that no image can get, before any is read.

        Raises:
            UsageError: it is larger than that of the network.
        """
        if self.scale is not None and self.scale > network_scale:
            raise UsageError(
                f"the network enlarges by {network_scale}, and --scale is {self.scale:g}.",
                f"Ask for at most {network_scale}, or upscale the result once more.",
            )

    def of(self, height: int, width: int, network_scale: int, *, step: int = 1) -> tuple[int, int]:
        """Return the height and width of the result of an image of ``height`` x ``width`` pixels.

        Args:
            height: of the image, in pixels.
            width: of the image, in pixels.
            network_scale: how many times larger the network makes it.
            step: both are multiples of this, as videos need it: the nearest ones, or the next below a limit.

        Raises:
            ImageError: the result would be larger than the network makes it.
        """
        factor = self._factor(height, width, network_scale)
        if factor > network_scale:
            raise ImageError(
                f"an image of {width}x{height} would have to be {float(factor):.3g} times as large, and the network "
                f"makes it {network_scale} times as large.",
                f"Ask for at most {width * network_scale}x{height * network_scale}, give --max-side, which takes what "
                "the network makes of a small image, or upscale the result once more.",
            )
        wide, high = self.fit or (self.max_side, self.max_side)
        return _side(height * factor, high, step), _side(width * factor, wide, step)

    def needs_network(self, height: int, width: int, network_scale: int) -> bool:
        """Return whether the network has a part in the result of an image: not where a reduction of it is all.

        Where a factor is asked for it always has: the network may clean the image too, and some do nothing else.
        """
        high, wide = self.of(height, width, network_scale)
        whole = self._factor(height, width, network_scale) == network_scale
        return whole or self.scale is not None or high > height or wide > width

    def _factor(self, height: int, width: int, network_scale: int) -> Fraction:
        if self.scale is not None:
            return Fraction(self.scale).limit_denominator(_FINEST)
        if self.width is not None:
            return Fraction(self.width, width)
        if self.height is not None:
            return Fraction(self.height, height)
        if self.max_side is not None:
            return min(Fraction(self.max_side, max(height, width)), Fraction(network_scale))
        if self.fit is not None:
            return min(Fraction(self.fit[0], width), Fraction(self.fit[1], height))
        return Fraction(network_scale)


def _side(exact: Fraction, limit: int | None, step: int) -> int:
    """Return the multiple of ``step`` nearest to ``exact``, at least one, and none above ``limit`` if another is."""
    steps = int(exact / step + Fraction(1, 2))
    if limit is not None:
        steps = min(steps, limit // step)
    return max(steps, 1) * step
