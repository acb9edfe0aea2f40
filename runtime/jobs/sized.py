"""Results of the size that was asked for: the network's own, reduced where that is larger."""

from collections.abc import Iterator
from dataclasses import replace

from drc_deploy.images.output_size import OutputSize
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.strip_resizer import StripResizer
from drc_deploy.runtime.backends.contract import Pixels


class SizedResult:
    """What one image becomes.

    Attributes:
        layout: Of the result.
        needs_network: Whether the network has a part in it; else the image itself is reduced.
    """

    def __init__(
        self, image: Layout, network_scale: int, size: OutputSize, *, linear_light: bool, step: int = 1
    ) -> None:
        """Decide how large the result is.

        Args:
            image: what comes in.
            network_scale: how many times larger the network makes it.
            size: what was asked for.
            linear_light: reduce light instead of samples.
            step: both sides are multiples of it.

        Raises:
            ImageError: the result would be larger than the network makes it.
        """
        height, width = size.of(image.height, image.width, network_scale, step=step)
        self.needs_network = size.needs_network(image.height, image.width, network_scale)
        self.layout = replace(image, height=height, width=width)
        scale = network_scale if self.needs_network else 1
        made = replace(image, height=image.height * scale, width=image.width * scale)
        self._resizer = None if made == self.layout else StripResizer(made, height, width, linear_light=linear_light)

    @property
    def held_bytes(self) -> int:
        """Memory that reducing takes besides the strip at hand."""
        return 0 if self._resizer is None else self._resizer.held_bytes

    def strips(self, strips: Iterator[Pixels]) -> Iterator[Pixels]:
        """Return the strips of the result, of those that the network made or of the image."""
        return strips if self._resizer is None else self._resizer.strips(strips)

    def whole(self, image: Pixels) -> Pixels:
        """Return the result of a whole image that the network made, such as a frame of a video."""
        return image if self._resizer is None else self._resizer(image)
