"""Segments joined with everything else of a video, without being encoded again."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drc_deploy.errors import ImageError, OutputError
from drc_deploy.files import atomic_path, scratch_folder
from drc_deploy.images.animation.reading import Animation
from drc_deploy.runtime.video.encoders import Encoding
from drc_deploy.runtime.video.reading import Frame, VideoInfo, open_video
from drc_deploy.runtime.video.sound import Copying, OtherStreams
from drc_deploy.runtime.video.writing import SEGMENT_FRAMES, describe_colours, write_segment

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_ABOUT_THE_SOURCE = ("alpha_mode", "duration", "encoder", "bps", "number_of_", "_statistics")
"""Begin the names of what a container says of the stream that it holds, and not of another."""
_FORMATS = {".m4v": "mp4"}
"""Formats that FFmpeg would not choose for a suffix: its own for .m4v holds no HEVC."""
_ONLY_A_SEGMENT = {"protocol_whitelist": "file", "format_whitelist": "nut,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2"}
"""Of FFmpeg: a playlist in its place would have it open other files, or the network."""
_TRIED_PACKETS = 200
"""So many of the sound and the subtitles show whether a format takes them."""


@dataclass(frozen=True, slots=True)
class Original:
    """What the result takes everything but its pictures from."""

    path: Path
    info: VideoInfo
    copying: Copying = field(default_factory=Copying)
    """How everything but the pictures gets into the result."""
    animation: Animation | None = None
    """What the file is where it is no video; it has nothing but pictures."""


def join(
    segments: Sequence[Path],
    original: Original,
    target: Path,
    encoding: Encoding,
    check: Callable[[], None],
    *,
    replace: bool,
) -> int:
    """Write the segments as one video, together with the sound and the subtitles of the original.

    Args:
        segments: all that belong to the video.
        original: where the rest comes from.
        target: what is written.
        encoding: of the segments.
        check: called before the result appears; what it raises prevents that.
        replace: whether the result may take the place of a file that is there by then.

    Returns:
        The number of frames.

    Raises:
        ImageError: the original cannot be read any more, or there are no segments.
        OutputError: a segment is missing or damaged, ``target`` cannot hold a stream or is in the way, or the disk is
            full.
    """
    if not segments:
        raise ImageError(f"{original.path} has no frames.", "Copy the file again.")
    for segment in segments:
        if not segment.is_file():
            raise OutputError(f"{segment} is gone.", "Give the same command again, which makes it anew.")
    with atomic_path(target, replace=replace) as temporary:
        frame_count = _write(segments, original, target, temporary, encoding, most_packets=None)
        check()
        return frame_count


def check_target_holds(original: Original, target: Path, size: tuple[int, int], encoding: Encoding) -> None:
    """Find out before computing whether the encoder and the format of ``target`` take all that they will get.

    A black picture of ``size`` is encoded and joined with the beginning of the rest, just as the result will be.

    Raises:
        OutputError: they do not.
    """
    info = original.info
    with scratch_folder() as folder:
        segment = folder / f"segment.{encoding.segments}"
        black = np.zeros((*size, 4 if encoding.alpha else 3), np.uint8)
        write_segment(segment, [Frame(black, max(info.end - info.step, 0), info.step)], info, encoding)
        probe = folder / f"probe{target.suffix}"
        _write([segment], original, target, probe, encoding, most_packets=_TRIED_PACKETS)


def _write(
    segments: Sequence[Path],
    original: Original,
    target: Path,
    file: Path,
    encoding: Encoding,
    *,
    most_packets: int | None,
) -> int:
    """Write ``file``, which errors call ``target``; return the number of frames."""
    info = original.info
    with _opened(original) as opened, _writing(target, file) as container:
        video = _add_pictures(container, segments[0], target, info, encoding)
        others: Iterator[Packet[Any]] = iter(())
        if opened:
            source, pictures = opened
            video.metadata.update(_kept_metadata(pictures.metadata))
            others = OtherStreams(source, container, original.copying).packets(info.start_s, most_packets)
        container.start_encoding()
        frame_count = 0
        for packet in heapq.merge(_packets(segments, video, info), others, key=_seconds):
            frame_count += packet.stream is video
            container.mux(packet)
        return frame_count


@contextmanager
def _opened(original: Original) -> "Iterator[tuple[InputContainer, VideoStream] | None]":
    """Open what has more than pictures."""
    if original.animation:
        yield None
        return
    with open_video(original.path) as opened:
        yield opened


def _add_pictures(
    container: "OutputContainer", segment: Path, target: Path, info: VideoInfo, encoding: Encoding
) -> "VideoStream":
    with _opened_segment(segment) as first:
        height = first.streams.video[0].codec_context.height
        video: VideoStream = container.add_stream_from_template(first.streams.video[0], opaque=True)
    video.codec_context.framerate = info.rate  # or a Matroska file has one that its ticks suggest
    describe_colours(video.codec_context, encoding.colours(info))
    if info.pixel_aspect:
        video.codec_context.sample_aspect_ratio = info.pixel_aspect
    if tag := encoding.tag(target):
        video.codec_context.codec_tag = tag
    if encoding.alpha and encoding.encoder.startswith("libvpx"):
        video.metadata["alpha_mode"] = "1"
    if info.display_matrix is not None:
        video.set_display_matrix(_enlarged(info.display_matrix, Fraction(height, info.height)))
    return video


def _enlarged(matrix: tuple[int, ...], times: Fraction) -> tuple[int, ...]:
    """Return a display matrix whose shift fits the larger picture: it brings what was turned back into the frame."""
    return (*matrix[:6], round(matrix[6] * times), round(matrix[7] * times), matrix[8])


def _kept_metadata(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if not key.lower().startswith(_ABOUT_THE_SOURCE)}


def _packets(segments: Sequence[Path], video: "VideoStream", info: VideoInfo) -> "Iterator[Packet[Any]]":
    """Yield the packets of all segments. Each lasts until the next, and the last one as long as that of the source."""
    waiting: Packet[Any] | None = None
    first = info.first * info.time_base - info.start_s
    for packet in _stored_packets(segments):
        assert packet.time_base is not None
        packet.pts = _ticks(packet) + round(first / packet.time_base)
        packet.dts = packet.pts  # no frame waits for a later one, which NUT does not know
        packet.stream = video
        if waiting is not None:
            waiting.duration = packet.pts - _ticks(waiting)
            yield waiting
        waiting = packet
    if waiting is not None:
        assert waiting.time_base is not None
        end = round((first + info.end * info.time_base) / waiting.time_base)
        usual = round(1 / (info.rate * waiting.time_base))
        waiting.duration = end - _ticks(waiting) if end > _ticks(waiting) else usual
        yield waiting


def _opened_segment(segment: Path) -> "InputContainer":
    import av

    try:
        return av.open(str(segment.absolute()), options=_ONLY_A_SEGMENT)
    except av.FFmpegError as error:
        raise OutputError(f"{segment} is no segment of a video.", "Delete it and go on.") from error


def _stored_packets(segments: Sequence[Path]) -> "Iterator[Packet[Any]]":
    for segment in segments:
        count = 0
        with _opened_segment(segment) as container:
            for packet in container.demux(video=0):
                if packet.pts is not None:  # or it says that there are no more
                    count += 1
                    yield packet
        if count != SEGMENT_FRAMES and not (count and segment is segments[-1]):
            raise OutputError(f"{segment} holds {count} frames of {SEGMENT_FRAMES}.", "Delete it and go on.")


def _ticks(packet: "Packet[Any]") -> int:
    assert packet.pts is not None
    return packet.pts


def _seconds(packet: "Packet[Any]") -> Fraction:
    assert packet.dts is not None
    assert packet.time_base is not None
    return packet.dts * packet.time_base


@contextmanager
def _writing(target: Path, file: Path) -> "Iterator[OutputContainer]":
    """Open ``file`` for writing; errors name ``target``."""
    import av

    try:
        with av.open(str(file.absolute()), "w", format=_FORMATS.get(file.suffix.lower())) as container:
            yield container
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, OSError):
            raise  # of the disk
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"{target} cannot be written: {reason}.",
            "Give another format with -o: .mkv holds most streams. Or choose another --codec or --audio.",
        ) from error
