"""Videos to files, by way of PyAV: segments of H.264, joined with everything that is copied.

Time stamps are those of the source, to the tick: frames may be of any duration. A segment is a NUT file, which holds
any time base. Its frames refer to earlier ones only, so that segments can follow each other without being encoded
again.
"""

import heapq
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from drc_deploy.errors import ImageError, MissingDependencyError, OutputError
from drc_deploy.files import atomic_path
from drc_deploy.runtime.video.reading import Frame, VideoInfo, open_video

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SEGMENT_FRAMES = 48
"""A run that is killed computes so many again at most; each segment begins with a whole picture, which costs space."""

_ENCODER: Final = "libx264"
_ENCODER_OPTIONS = {"preset": "veryfast", "crf": "16", "x264-params": "bframes=0"}
"""Quality that hides the encoder; without frames that refer to later ones; ten frames at most wait in it."""
_UNSPECIFIED = 2


def write_segment(path: Path, frames: Iterable[Frame], info: VideoInfo) -> None:
    """Encode frames that follow each other as a file of their own, or none.

    Raises:
        OutputError: the frames cannot be encoded, or the disk is full.
    """
    with atomic_path(path) as temporary, _writing(path, temporary, "nut") as container:
        stream: VideoStream | None = None
        for frame in frames:
            if stream is None:
                stream = _video_stream(container, frame.pixels.shape[:2], info)
            container.mux(stream.encode(_encodable(frame, info)))
        if stream is not None:
            container.mux(stream.encode())


def _video_stream(container: "OutputContainer", size: Sequence[int], info: VideoInfo) -> "VideoStream":
    import av

    if _ENCODER not in av.codecs_available:
        raise MissingDependencyError(f"this PyAV has no {_ENCODER}.", "Install it with pip: pip install av.")
    stream = container.add_stream(_ENCODER, rate=info.rate, options=dict(_ENCODER_OPTIONS))
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = info.time_base
    if info.pixel_aspect:
        context.sample_aspect_ratio = info.pixel_aspect
    context.colorspace, context.color_range = info.colours.matrix, info.colours.range
    context.color_primaries, context.color_trc = info.colours.primaries, info.colours.transfer
    return stream


def _encodable(frame: Frame, info: VideoInfo) -> "VideoFrame":
    """Return the frame in the numbers of the source, so that players turn both into the same colours."""
    from av.video.frame import VideoFrame

    colours = info.colours
    result = VideoFrame.from_ndarray(np.ascontiguousarray(frame.pixels), "rgb24").reformat(
        format="yuv420p",
        dst_colorspace=None if colours.matrix == _UNSPECIFIED else colours.matrix,
        dst_color_range=colours.range or None,
    )
    result.pts, result.time_base, result.duration = frame.time, info.time_base, frame.duration
    return result


def join(
    segments: Sequence[Path],
    source: Path,
    target: Path,
    info: VideoInfo,
    check: Callable[[], None],
    *,
    replace: bool,
) -> int:
    """Write the segments as one video, together with the sound and the subtitles of ``source`` as they are.

    Args:
        segments: all that belong to the video.
        source: where the rest comes from.
        target: what is written.
        info: of ``source``.
        check: called before the result appears; what it raises prevents that.
        replace: whether the result may take the place of a file that is there by then.

    Returns:
        The number of frames.

    Raises:
        ImageError: ``source`` cannot be read any more, or there are no segments.
        OutputError: a segment is missing or damaged, ``target`` cannot hold a stream or is in the way, or the disk is
            full.
    """
    if not segments:
        raise ImageError(f"{source} has no frames.", "Copy the file again.")
    for segment in segments:
        if not segment.is_file():
            raise OutputError(f"{segment} is gone.", "Give the same command again, which makes it anew.")
    with open_video(source) as (original, pictures), atomic_path(target, replace=replace) as temporary:
        with _writing(target, temporary, None) as container:
            frame_count = _fill(container, segments, original, pictures, info)
        check()
        return frame_count


def _fill(
    container: "OutputContainer",
    segments: Sequence[Path],
    original: "InputContainer",
    pictures: "VideoStream",
    info: VideoInfo,
) -> int:
    """Copy everything into the result; return the number of frames."""
    import av

    with av.open(str(segments[0])) as first:
        video = container.add_stream_from_template(first.streams.video[0], opaque=True)
    video.metadata.update(pictures.metadata)
    if info.display_matrix is not None:
        video.set_display_matrix(info.display_matrix)
    copies = _copied_streams(container, original)
    container.start_encoding()
    frame_count = 0
    for packet in heapq.merge(_packets(segments, video), _copied_packets(original, copies), key=_seconds):
        frame_count += packet.stream is video
        container.mux(packet)
    return frame_count


def check_target_holds(source: Path, target: Path, info: VideoInfo) -> None:
    """Find out before computing whether the format of ``target`` takes the sound and the subtitles of ``source``.

    Raises:
        OutputError: it does not.
    """
    with open_video(source) as (original, _), tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, f"probe{target.suffix}")
        with _writing(target, probe, None) as container:
            _video_stream(container, (64, 64), info)
            _copied_streams(container, original)
            container.start_encoding()


def _copied_streams(container: "OutputContainer", original: "InputContainer") -> "dict[int, Stream]":
    """Add the sound and the subtitles of a video to another, title and chapters too; return them by their old index."""
    container.metadata.update(original.metadata)
    if chapters := original.chapters():
        container.set_chapters(chapters)
    copies: dict[int, Stream] = {}
    for stream in (*original.streams.audio, *original.streams.subtitles):
        copy: Stream = container.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        copies[stream.index] = copy
    return copies


def _packets(segments: Sequence[Path], video: "VideoStream") -> "Iterator[Packet[Any]]":
    import av

    for segment in segments:
        count = 0
        with av.open(str(segment)) as container:
            for packet in container.demux(video=0):
                if packet.pts is None:  # says that there are no more
                    continue
                packet.dts = packet.pts  # no frame waits for a later one, which NUT does not know
                packet.stream = video
                count += 1
                yield packet
        if count != SEGMENT_FRAMES and not (count and segment is segments[-1]):
            raise OutputError(f"{segment} holds {count} frames of {SEGMENT_FRAMES}.", "Delete it and go on.")


def _copied_packets(original: "InputContainer", copies: "dict[int, Stream]") -> "Iterator[Packet[Any]]":
    for packet in original.demux([original.streams[index] for index in copies]) if copies else ():
        if packet.dts is None and packet.pts is None:  # says that there are no more
            continue
        if packet.dts is None:
            packet.dts = packet.pts
        packet.stream = copies[packet.stream.index]
        yield packet


def _seconds(packet: "Packet[Any]") -> Fraction:
    assert packet.dts is not None
    assert packet.time_base is not None
    return packet.dts * packet.time_base


@contextmanager
def _writing(target: Path, file: Path, kind: str | None) -> "Iterator[OutputContainer]":
    """Open ``file`` for writing; errors name ``target``."""
    import av

    try:
        with av.open(str(file), "w", format=kind) as container:
            yield container
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, OSError):
            raise  # of the disk
        raise OutputError(
            f"{target} cannot be written: {error}.", "Give another format with -o: .mkv holds most streams."
        ) from error
