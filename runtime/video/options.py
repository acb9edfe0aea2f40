"""What a user asks of a video's result."""

from dataclasses import dataclass, field
from typing import Literal, get_args

Codec = Literal["h264", "hevc", "av1", "vp9", "ffv1", "prores", "h264_nvenc", "hevc_nvenc", "av1_nvenc"]
CODECS: tuple[Codec, ...] = get_args(Codec)
Sound = Literal["copy", "aac", "opus", "none"]
SOUNDS: tuple[Sound, ...] = get_args(Sound)


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """How the pictures are encoded; None is a choice by the source and the format."""

    codec: Codec | None = None
    crf: int | None = None
    """Quality: less is better and larger."""
    preset: str | None = None
    """Time against size, by a name or a number that the encoder knows."""


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """How the result is made."""

    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    sound: Sound = "copy"
    subtitles: bool = True
    deinterlace: bool | None = None
    """None: an interlaced video is refused."""


AS_THE_SOURCE = VideoOptions()
"""And as the format written suggests."""
