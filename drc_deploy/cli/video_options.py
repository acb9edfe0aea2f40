"""The options that say how videos are written."""

import functools
from collections.abc import Callable
from typing import Any

import click

from drc_deploy.runtime.video.options import CODECS, SOUNDS, Codec, EncoderOptions, Sound, VideoOptions

_OPTIONS = (
    click.option(
        "--codec",
        type=click.Choice(CODECS),
        metavar="CODEC",
        help=f"Encoder: {', '.join(CODECS)}.  [default: h264; hevc for 10 bits; what keeps transparency]",
    ),
    click.option("--crf", type=click.IntRange(0, 63), help="Quality; 0 is best.  [default: by the encoder]"),
    click.option("--preset", help="Speed of the encoder, such as slow.  [default: a fast one]"),
    click.option(
        "--audio",
        type=click.Choice(SOUNDS),
        default="copy",
        show_default=True,
        help="What to do with the sound.",
    ),
    click.option("--no-subtitles", is_flag=True, help="Leave subtitles out."),
    click.option(
        "--deinterlace/--no-deinterlace",
        default=None,
        help="Make whole pictures of interlaced ones, or take them as they are.  [default: refuse them]",
    ),
)


def video_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets ``video``, a ``VideoOptions``."""

    @functools.wraps(command)
    def with_video(
        *,
        codec: Codec | None,
        crf: int | None,
        preset: str | None,
        audio: Sound,
        no_subtitles: bool,
        deinterlace: bool | None,
        **others: Any,
    ) -> None:
        command(video=VideoOptions(EncoderOptions(codec, crf, preset), audio, not no_subtitles, deinterlace), **others)

    for option in reversed(_OPTIONS):
        option(with_video)
    return with_video
