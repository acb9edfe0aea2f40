"""How the numbers of a video mean colours, and frames as RGB and back (ITU-T H.273 has the numbers)."""

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drc_deploy.runtime.backends.contract import Pixels

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

UNSPECIFIED = 2
_RGB_MATRIX = 0
_BT709, _BT470BG, _SMPTE170M, _SRGB = 1, 5, 6, 13
LIMITED, _FULL = 1, 2
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
_HD_WIDTH, _SD_HEIGHT, _NTSC_HEIGHTS = 1280, 576, (480, 486)

_PRIMARY_UNIT, _LUMINANCE_UNIT = 50_000, 10_000
"""Of SMPTE ST 2086 in HEVC (ITU-T H.265, D.3.28): steps of 0.00002 and of 0.0001 cd/m2."""
_MASTERING = struct.Struct("=20i2I")
"""FFmpeg's AVMasteringDisplayMetadata: ten fractions (x and y of red, green, blue and white; least and most light), and
whether the colours and the light are known."""
_LIGHT = struct.Struct("=2I")
"""FFmpeg's AVContentLightMetadata."""


@dataclass(frozen=True, slots=True)
class Colours:
    """How the numbers of a video mean colours, as it says or as players guess; nothing is unspecified."""

    matrix: int
    primaries: int
    transfer: int
    range: int
    """1 is limited, 2 full."""

    @property
    def hdr(self) -> str | None:
        """The name of the transfer of a high dynamic range."""
        return HDR_TRANSFERS.get(self.transfer)


AS_ON_A_SCREEN = Colours(_BT709, _BT709, _SRGB, LIMITED)
"""sRGB, as a video holds it."""


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """What a video of high dynamic range says about the display it was made on, and about its brightest pictures."""

    mastering: tuple[float, ...] | None
    """x and y of red, green, blue and white (CIE 1931); the least and the most light in cd/m2 (SMPTE ST 2086)."""
    light: tuple[int, int] | None
    """MaxCLL and MaxFALL in cd/m2 (CTA-861.3)."""

    def x265_options(self) -> list[str]:
        """Return the options for x265."""
        return [*self._mastering("master-display", _PRIMARY_UNIT, _LUMINANCE_UNIT), *self._light("max-cll")]

    def svt_options(self) -> list[str]:
        """Return the options for SVT-AV1."""
        return [*self._mastering("mastering-display", None, None), *self._light("content-light")]

    def _mastering(self, name: str, primary_unit: int | None, light_unit: int | None) -> list[str]:
        if self.mastering is None:
            return []
        units = [primary_unit] * 8 + [light_unit] * 2
        rx, ry, gx, gy, bx, by, wx, wy, least, most = (
            f"{value:g}" if unit is None else str(round(value * unit))
            for value, unit in zip(self.mastering, units, strict=True)
        )
        return [f"{name}=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({most},{least})"]

    def _light(self, name: str) -> list[str]:
        return [] if self.light is None else ["{}={},{}".format(name, *self.light)]


def colours_of(frame: "VideoFrame", context: "VideoCodecContext") -> Colours:
    """Return how a decoded frame is meant, by itself or its container, or else as players guess (mpv, mp_image.c).

    An enlarged video would be guessed to be of another standard than its source, so the result always says.
    """
    guess, sources = _guess(frame), (frame, context)
    rgb = frame.format.is_rgb  # what is written is not, and has a matrix and a range of its own
    return Colours(
        guess.matrix if rgb else _first([source.colorspace for source in sources], guess.matrix),
        _first([source.color_primaries for source in sources], guess.primaries),
        _first([source.color_trc for source in sources], guess.transfer),
        guess.range if rgb else frame.color_range or context.color_range or guess.range,
    )


def _first(numbers: list[int], guess: int) -> int:
    return next((number for number in numbers if number not in (_RGB_MATRIX, UNSPECIFIED)), guess)


def _guess(frame: "VideoFrame") -> Colours:
    if frame.format.is_rgb or frame.format.has_palette:  # as images on a screen; what is written is no RGB
        return AS_ON_A_SCREEN
    primaries = {_SD_HEIGHT: _BT470BG, **dict.fromkeys(_NTSC_HEIGHTS, _SMPTE170M)}.get(frame.height, _BT709)
    hd = frame.width >= _HD_WIDTH or frame.height > _SD_HEIGHT
    return Colours(
        _BT709 if hd else _SMPTE170M, primaries, _BT709, _FULL if frame.format.name.startswith("yuvj") else LIMITED
    )


def hdr_metadata(frame: "VideoFrame") -> HdrMetadata:
    """Return what a decoded frame says about its mastering."""
    mastering: Any = frame.side_data.get("MASTERING_DISPLAY_METADATA")
    light: Any = frame.side_data.get("CONTENT_LIGHT_LEVEL")
    return HdrMetadata(
        None if mastering is None else _mastering(bytes(mastering)),
        None if light is None else _LIGHT.unpack_from(bytes(light)),
    )


def _mastering(data: bytes) -> tuple[float, ...] | None:
    *numbers, has_primaries, has_light = _MASTERING.unpack_from(data)
    if not (has_primaries and has_light and all(numbers[1::2])):
        return None
    return tuple(above / below for above, below in zip(numbers[::2], numbers[1::2], strict=True))


def to_rgb(frame: "VideoFrame", colours: Colours, *, deep: bool, alpha: bool) -> NDArray[Any]:
    """Return the pixels of a frame.

    Args:
        frame: as decoded.
        colours: of ``colours_of``.
        deep: as 16 bits, of full range.
        alpha: with an alpha.

    Returns:
        (H, W, 3) RGB or (H, W, 4) RGBA; uint8 or uint16.
    """
    kind = {(False, False): "rgb24", (True, False): "rgb48le", (False, True): "rgba", (True, True): "rgba64le"}
    pixels: Any = frame.reformat(
        format=kind[deep, alpha],
        src_colorspace=None if frame.format.is_rgb else colours.matrix,
        src_color_range=None if frame.format.is_rgb else colours.range,
        interpolation=_interpolation(deep=deep),
    ).to_ndarray()
    return np.asarray(pixels)


def _interpolation(*, deep: bool) -> int:
    """Return how FFmpeg converts: without, flat colours were up to 5 levels off there and back.

    To 16 bits its full chroma makes other colours (FFmpeg 8.0, yuv420p to rgb48le).
    """
    from av.video.reformatter import Interpolation as Use

    accurate = Use.BILINEAR | Use.ACCURATE_RND
    return accurate if deep else accurate | Use.FULL_CHR_H_INT | Use.FULL_CHR_H_INP


def from_rgb(pixels: Pixels, colours: Colours, pixel_format: str) -> "VideoFrame":
    """Return a frame of the numbers that mean these pixels, which are as ``to_rgb`` returns them."""
    from av.video.frame import VideoFrame

    kind = {(3, 1): "rgb24", (3, 2): "rgb48le", (4, 1): "rgba", (4, 2): "rgba64le"}
    source = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), kind[pixels.shape[2], pixels.itemsize])
    frame = source.reformat(
        format=pixel_format,
        dst_colorspace=colours.matrix,
        dst_color_range=colours.range,
        interpolation=_interpolation(deep=pixels.itemsize > 1),
    )
    # Some encoders ask the frame and not the stream.
    frame.colorspace, frame.color_range = colours.matrix, colours.range
    frame.color_primaries, frame.color_trc = colours.primaries, colours.transfer
    return frame
