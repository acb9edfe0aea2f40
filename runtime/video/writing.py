"""Segments of a video, by way of PyAV.

Time stamps are those of the source, to the tick: frames may be of any duration. Frames refer to earlier ones of their
segment only, so that segments can follow each other without being encoded again.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from drc_deploy.errors import OutputError
from drc_deploy.files import atomic_path
from drc_deploy.runtime.video.colours import Colours, from_rgb
from drc_deploy.runtime.video.encoders import Encoding
from drc_deploy.runtime.video.reading import Frame, VideoInfo

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

SEGMENT_FRAMES = 48
"""A run that is killed computes so many again at most; each segment begins with a whole picture, which costs space."""


def write_segment(path: Path, frames: Iterable[Frame], info: VideoInfo, encoding: Encoding) -> None:
    """Encode frames that follow each other as a file of their own, or none.

    A column or a row too many is cut off where the encoder takes only even numbers of them.

    Raises:
        OutputError: the frames cannot be encoded, or the disk is full.
    """
    with atomic_path(path) as temporary, _encoding(temporary, info, encoding) as container:
        stream: VideoStream | None = None
        colours = encoding.colours(info)
        for frame in frames:
            height, width = even_size(frame.pixels.shape[:2], encoding)
            if stream is None:
                stream = _video_stream(container, (height, width), info, encoding)
            encodable = from_rgb(frame.pixels[:height, :width], colours, encoding.pixel_format)
            encodable.pts, encodable.time_base, encodable.duration = frame.time, info.time_base, frame.duration
            container.mux(stream.encode(encodable))
        if stream is not None:
            container.mux(stream.encode())


def even_size(size: Sequence[int], encoding: Encoding) -> tuple[int, int]:
    """Return the height and width of ``size`` that the encoder takes."""
    height, width = size
    half_height, half_width = "420" in encoding.pixel_format, "444" not in encoding.pixel_format
    return height - height % 2 * half_height, width - width % 2 * half_width


@contextmanager
def _encoding(file: Path, info: VideoInfo, encoding: Encoding) -> "Iterator[OutputContainer]":
    import av

    exact_ticks = {
        "mov": dict.fromkeys(("video_track_timescale", "movie_timescale"), str(info.time_base.denominator)),
    }
    try:
        options = exact_ticks.get(encoding.segments, {})
        with av.open(str(file.absolute()), "w", format=encoding.segments, options=options) as container:
            yield container
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, OSError):
            raise  # of the disk
        raise _not_encodable(encoding, error) from error


def _not_encodable(encoding: Encoding, why: object) -> OutputError:
    reason = getattr(why, "strerror", None) or why
    needs = "It needs an NVIDIA GPU with its driver. " if encoding.encoder.endswith("nvenc") else ""
    return OutputError(
        f"{encoding.encoder} cannot encode this video here: {reason}.", f"{needs}Choose another encoder with --codec."
    )


def _video_stream(
    container: "OutputContainer", size: tuple[int, int], info: VideoInfo, encoding: Encoding
) -> "VideoStream":
    import av

    if size[1] < encoding.least_width:
        raise _not_encodable(encoding, f"it has {size[1]} columns, and needs {encoding.least_width}")
    stream: Any = container.add_stream(encoding.encoder, rate=info.rate, options=dict(encoding.options))
    stream.height, stream.width = size
    stream.pix_fmt = encoding.pixel_format
    context = stream.codec_context
    context.time_base = info.time_base
    if info.pixel_aspect:
        context.sample_aspect_ratio = info.pixel_aspect
    describe_colours(context, encoding.colours(info))
    try:
        with scheduled_as_before():
            context.open()
    except av.FFmpegError as error:  # of the machine, such as no GPU, and not of the disk
        raise _not_encodable(encoding, error) from error
    return cast("VideoStream", stream)


@contextmanager
def scheduled_as_before() -> Iterator[None]:
    """Undo what opening an encoder does to the scheduling of this thread.

    As root, SVT-AV1 takes the highest priority of real time for it. Threads that wait for their turn would never get
    it, nor would those of children, such as ONNX Runtime's.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, priority)


def describe_colours(context: Any, colours: Colours) -> None:
    """Say in a codec context what the numbers of the frames mean."""
    context.colorspace, context.color_range = colours.matrix, colours.range
    context.color_primaries, context.color_trc = colours.primaries, colours.transfer
