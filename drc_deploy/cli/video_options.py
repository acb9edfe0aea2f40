"""``--codec``, ``--crf``, ``--preset``, ``--audio`` and ``--deinterlace``: how videos are written."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from drc_deploy.runtime.video.options import CODECS, SOUNDS, EncoderOptions, VideoOptions


def video_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options, and pass ``video`` in their place."""

    @click.option(
        "--codec",
        type=click.Choice(CODECS),
        metavar="CODEC",
        help=f"Encoder of videos: {', '.join(CODECS)}.  [default: h264; hevc for 10 bits, vp9 for .webm, and what "
        "keeps transparency]",
    )
    @click.option("--crf", type=click.IntRange(0, 63), help="Quality of videos; 0 is best.  [default: by the encoder]")
    @click.option("--preset", help="Speed of the video encoder, such as slow.  [default: a fast one]")
    @click.option(
        "--audio",
        "sound",
        type=click.Choice(SOUNDS),
        default="copy",
        show_default=True,
        help="What to do with the sound of videos.",
    )
    @click.option(
        "--deinterlace/--no-deinterlace",
        default=None,
        help="Make whole pictures of interlaced videos, or take them as they are.  [default: refuse them]",
    )
    @wraps(command)
    def with_video(*arguments: Any, codec: Any, crf: Any, preset: Any, sound: Any, deinterlace: Any, **rest: Any) -> Any:
        video = VideoOptions(EncoderOptions(codec, crf, preset), sound, deinterlace)
        return command(*arguments, video=video, **rest)

    return with_video
