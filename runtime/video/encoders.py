"""Which encoder writes a video, and how it is set: by what is asked for, by the source, and by the format written."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

from drc_deploy.errors import MissingDependencyError, UsageError
from drc_deploy.runtime.video.colours import LIMITED, Colours, HdrMetadata
from drc_deploy.runtime.video.options import Codec, EncoderOptions
from drc_deploy.runtime.video.reading import VideoInfo

_log = logging.getLogger(__name__)

_X26_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_NVENC_PRESETS = tuple(f"p{number}" for number in range(1, 8))
_NUT, _MATROSKA, _MOV = SEGMENT_SUFFIXES = ("nut", "matroska", "mov")
"""Formats of segments, and their suffixes."""


class _Quality(NamedTuple):
    """How an encoder is asked for a quality, and the one that hides it."""

    option: str
    default: int
    most: int


@dataclass(frozen=True, slots=True)
class _Codec:
    """An encoder of FFmpeg. None of them lets a picture wait for a later one, so that segments can be joined."""

    encoder: str
    formats: tuple[str | None, str | None, str | None, str | None]
    """Of 8 bits and of 10, and of both with alpha."""
    quality: _Quality | None = None
    """None: it has one quality."""
    preset: str = "preset"
    """Name of the option that trades size for time."""
    presets: tuple[str, ...] = ()
    """The fast ones first; none: it has no such option."""
    default_preset: str = ""
    options: dict[str, str] = field(default_factory=dict)
    parameters: tuple[str, str] = ("", "")
    """Name and first value of an option that holds several."""
    hdr: Callable[[HdrMetadata], list[str]] | None = None
    """What says it how a high dynamic range was mastered."""
    segments: str = _NUT
    """The format of segments: any holds the times of their frames to the tick."""
    alpha_options: dict[str, str] = field(default_factory=dict)
    least_width: int = 1
    """Of pictures, in pixels."""


def _nvenc(encoder: str, deep: str | None) -> _Codec:
    quality = _Quality("cq", 19, 51)
    options = {"rc": "vbr", "b": "0", "bf": "0"}
    return _Codec(encoder, ("yuv420p", deep, None, None), quality, "preset", _NVENC_PRESETS, "p4", options)


_CODECS: Final[dict[Codec, _Codec]] = {
    "h264": _Codec(
        "libx264",
        ("yuv420p", "yuv420p10le", None, None),
        _Quality("crf", 16, 51),
        presets=_X26_PRESETS,
        default_preset="veryfast",
        parameters=("x264-params", "bframes=0"),
    ),
    "hevc": _Codec(
        "libx265",
        ("yuv420p", "yuv420p10le", None, None),
        _Quality("crf", 18, 51),
        presets=_X26_PRESETS,
        default_preset="veryfast",
        parameters=("x265-params", "bframes=0:log-level=error"),
        hdr=HdrMetadata.x265_options,
        least_width=64,  # it writes past its memory at 36 to 48 (x265 of PyAV 18.1)
    ),
    "av1": _Codec(
        "libsvtav1",
        ("yuv420p", "yuv420p10le", None, None),
        _Quality("crf", 23, 63),
        # From 8 on, pictures of 10 bits get wrong colours: up to 105 levels at --crf 2 (SVT-AV1 of PyAV 18.1).
        presets=tuple(str(number) for number in reversed(range(8))),
        default_preset="7",
        parameters=("svtav1-params", "pred-struct=1"),
        hdr=HdrMetadata.svt_options,
    ),
    "vp9": _Codec(
        "libvpx-vp9",
        ("yuv420p", None, "yuva420p", None),
        _Quality("crf", 18, 63),
        "cpu-used",
        tuple(str(number) for number in reversed(range(9))),
        "6",
        {"b": "0", "row-mt": "1", "lag-in-frames": "0"},
        segments=_MATROSKA,  # the only one that holds its alpha, and no worse in ticks than what can hold VP9
        alpha_options={"auto-alt-ref": "0"},
    ),
    "ffv1": _Codec(
        "ffv1", ("yuv444p", "yuv444p10le", "yuva444p", "yuva444p10le"), options={"level": "3", "slicecrc": "1"}
    ),
    "prores": _Codec(
        "prores_ks",
        ("yuv422p10le", "yuv422p10le", "yuva444p10le", "yuva444p10le"),
        options={"profile": "hq"},
        segments=_MOV,
        alpha_options={"profile": "4444"},
    ),
    "h264_nvenc": _nvenc("h264_nvenc", None),
    "hevc_nvenc": _nvenc("hevc_nvenc", "p010le"),
    "av1_nvenc": _nvenc("av1_nvenc", "p010le"),
}
_SAYS_SHAPE = ("h264", "hevc", "h264_nvenc", "hevc_nvenc")
"""What says in its own stream how wide pixels are. PyAV cannot have a Matroska file say it for others."""
_ALPHA_CODECS: Final[dict[str, Codec]] = {".mov": "prores", ".mkv": "ffv1", ".webm": "vp9"}
"""What keeps transparency, for each format that can."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """An encoder and all that it is set to."""

    encoder: str
    pixel_format: str
    options: dict[str, str]
    segments: str
    """Format of the segments."""
    deep: bool
    """Whether it takes more than 8 bits."""
    alpha: bool
    least_width: int

    def colours(self, info: VideoInfo) -> Colours:
        """Return how the numbers of the result mean colours: ProRes has no place for a full range."""
        return replace(info.colours, range=LIMITED) if self.encoder.startswith("prores") else info.colours

    def tag(self, target: Path) -> str | None:
        """Return what a file of Apple's family calls the stream: players and editors go by it."""
        if target.suffix.lower() not in (".mp4", ".mov", ".m4v"):
            return None
        if self.encoder.startswith("prores"):
            return "ap4h" if self.options["profile"] == "4444" else "apch"
        return "hvc1" if self.encoder in ("libx265", "hevc_nvenc") else None


def choose_encoding(source: Path, target: Path, info: VideoInfo, asked: EncoderOptions) -> Encoding:
    """Choose an encoder; what it loses of the source is noted.

    Raises:
        UsageError: it has no such quality or preset.
        MissingDependencyError: PyAV lacks it.
    """
    import av

    os.environ.setdefault("SVT_LOG", "1")  # or SVT-AV1 prints what it is doing
    name = asked.codec or _default_codec(target.suffix.lower(), info)
    codec = _CODECS[name]
    pixel_format, alpha = _pixel_format(codec, info)
    deep = info.bits > 8 and "10" in pixel_format
    for loss in _losses(name, target, info, deep=deep, alpha=alpha):
        _log.warning("%s has %s.", source, loss)
    if codec.encoder not in av.codecs_available:
        raise MissingDependencyError(f"this PyAV has no {codec.encoder}.", "Install it with pip: pip install av.")
    options = _options(name, info, asked, alpha=alpha)
    return Encoding(codec.encoder, pixel_format, options, codec.segments, deep, alpha, codec.least_width)


def _losses(name: Codec, target: Path, info: VideoInfo, *, deep: bool, alpha: bool) -> Iterator[str]:
    """Yield what the result will lack."""
    if info.alpha and not alpha:
        yield f"transparency, which {name} does not hold. Write a .mov, .mkv or .webm"
    if info.bits > 8 and not deep:
        yield f"{info.bits} bits a sample: the result has 8"
    if info.hdr and info.hdr.mastering and not _CODECS[name].hdr:
        yield f"mastering metadata, which {name} does not keep here"
    if info.pixel_aspect not in (0, 1) and name not in _SAYS_SHAPE and target.suffix.lower() in (".mkv", ".webm"):
        yield f"pixels that are not square, which {name} does not say in a {target.suffix}. Use --codec hevc or an .mp4"


def _pixel_format(codec: _Codec, info: VideoInfo) -> tuple[str, bool]:
    """Return the format that loses least, and whether it has an alpha."""
    plain, deep, alpha, deep_alpha = codec.formats
    with_alpha = (deep_alpha if info.bits > 8 else None) or alpha
    if info.alpha and with_alpha:
        return with_alpha, True
    chosen = (deep if info.bits > 8 else None) or plain
    assert chosen is not None
    return chosen, False


def _default_codec(suffix: str, info: VideoInfo) -> Codec:
    if info.alpha and suffix in _ALPHA_CODECS:
        return _ALPHA_CODECS[suffix]
    if suffix == ".webm":
        return "av1" if info.bits > 8 else "vp9"
    return "hevc" if info.bits > 8 else "h264"  # few players show H.264 of 10 bits


def _options(name: Codec, info: VideoInfo, asked: EncoderOptions, *, alpha: bool) -> dict[str, str]:
    codec = _CODECS[name]
    options = dict(codec.options)
    if codec.quality:
        crf = codec.quality.default if asked.crf is None else asked.crf
        if crf > codec.quality.most:
            raise UsageError(f"--crf {crf} is not for {name}.", f"Give 0 to {codec.quality.most}.")
        options[codec.quality.option] = str(crf)
    elif asked.crf is not None:
        raise UsageError(f"{name} has no --crf.", "Leave it out.")
    if asked.preset is not None and asked.preset not in codec.presets:
        known = f"Give one of {', '.join(codec.presets)}." if codec.presets else "Leave it out."
        raise UsageError(f"{name} has no --preset {asked.preset}.", known)
    if codec.presets:
        options[codec.preset] = asked.preset or codec.default_preset
    option, first = codec.parameters
    if option:
        hdr = codec.hdr(info.hdr) if codec.hdr and info.hdr else []
        options[option] = ":".join([first, *hdr])
    return options | (codec.alpha_options if alpha else {})
