"""Videos from and to files by way of PyAV: frames in, segments of H.264 out, and everything else copied.

Time stamps are those of the source, to the tick: frames may be of any duration. A segment is a NUT file, which holds
any time base. Its frames refer to earlier ones only, so that segments can follow each other without being encoded
again.
"""

import heapq
import logging
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from drc_deploy.errors import ImageError, MissingDependencyError, OutputError
from drc_deploy.files import atomic_path

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

SEGMENT_FRAMES = 48
"""A run that is killed computes so many again at most; each segment begins with a whole picture, which costs space."""

_ENCODER: Final = "libx264"
_ENCODER_OPTIONS = {"preset": "veryfast", "crf": "16", "x264-params": "bframes=0"}
"""Quality that hides the encoder; without frames that refer to later ones; ten frames at most wait in it."""
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""ITU-T H.273, table 3."""
_UNSPECIFIED = 2
_EARLY_END_S, _EARLY_END_PART = 1.0, 0.95


@dataclass(frozen=True, slots=True)
class Colours:
    """How the numbers of a video mean colours (ITU-T H.273); 2 is unspecified, 0 for the range."""

    matrix: int
    primaries: int
    transfer: int
    range: int


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a result takes over from the video stream of its source."""

    height: int
    """Of a frame as stored."""
    width: int
    display_matrix: tuple[int, ...] | None
    """How a player turns the frames: the nine numbers of FFmpeg's AV_FRAME_DATA_DISPLAYMATRIX."""
    time_base: Fraction
    """Seconds per tick of the time stamps."""
    rate: Fraction
    """Frames per second on average."""
    frame_count: int
    """How many pictures the file holds, decoded or not; for progress only."""
    pixel_aspect: Fraction
    colours: Colours
    notes: tuple[str, ...]
    """What a user should know, each a sentence."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a video."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB, as stored: players turn it as ``VideoInfo.display_matrix`` says."""
    time: int
    """In ticks."""
    duration: int
    """In ticks; 0 is unknown."""


@contextmanager
def open_video(path: Path) -> "Iterator[tuple[InputContainer, VideoStream]]":
    """Open a video and find its pictures.

    Raises:
        ImageError: it cannot be read, or holds no video, or one of high dynamic range.
    """
    import av

    try:
        container = av.open(str(path), metadata_errors="replace")
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist.", "Check the path.") from error
    except (av.FFmpegError, OSError) as error:
        raise ImageError(f"{path} cannot be read as a video: {error.strerror}.", "Copy the file again.") from error
    with container:
        streams = [stream for stream in container.streams.video if not _is_cover(stream)]
        if not streams:
            raise ImageError(f"{path} holds no video.", "Give a video file.")
        if streams[0].codec_context is None:
            raise ImageError(f"{path} holds video of an unknown kind.", "Convert it to H.264 first.")
        transfer = _HDR_TRANSFERS.get(streams[0].codec_context.color_trc)
        if transfer:
            raise ImageError(
                f"{path} has a high dynamic range ({transfer}), which networks trained on photographs do not know.",
                "Convert it to standard range first, with a tone mapping that suits it.",
            )
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def _is_cover(stream: "Stream") -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def video_info(path: Path, *, tolerant: bool = False) -> VideoInfo:
    """Read what the result takes over.

    Args:
        path: the video.
        tolerant: take one that ends early for what is there, with a note.

    Raises:
        ImageError: as ``open_video``, or the pictures end before the file says that they do.
    """
    frame_count, missing = _length(path)
    if missing and not tolerant:
        raise ImageError(
            f"{path} ends early: {missing}.",
            "Copy the file again, or give --tolerant to take the pictures that it has.",
        )
    with open_video(path) as (container, stream):
        context = stream.codec_context
        rate, time_base = stream.average_rate or stream.guessed_rate or Fraction(25), stream.time_base
        if time_base is None:
            raise ImageError(f"{path} has no time stamps.", "Convert it to MP4 or MKV first.")
        notes = [f"{path} ends early: {missing}."] if missing else []
        bits = max((component.bits for component in context.format.components), default=8) if context.format else 8
        if bits > 8:
            notes.append(f"{path} has {bits} bits a sample: the result has 8.")
        if len(container.streams.video) > 1:
            notes.append(f"{path} has several video streams: only the first is used.")
        if container.streams.data or container.streams.attachments:
            notes.append(f"{path} has streams of data or attachments, which are left out.")
        return VideoInfo(
            context.height,
            context.width,
            _display_matrix(container, stream),
            time_base,
            rate,
            frame_count,
            context.sample_aspect_ratio or Fraction(0),
            Colours(context.colorspace, context.color_primaries, context.color_trc, context.color_range),
            tuple(notes),
        )


def _length(path: Path) -> tuple[int, str]:
    """Count the pictures without decoding them, and say how many seconds are missing; nothing when none are.

    Of a file that is cut off FFmpeg only says that it ends.
    """
    with open_video(path) as (container, stream):
        spans: list[tuple[int, int]] = []
        for packet in container.demux(stream):
            if packet.dts is not None:
                begin = packet.dts if packet.pts is None else packet.pts
                spans.append((begin, begin + (packet.duration or 0)))
        if not spans or stream.time_base is None:
            raise ImageError(f"{path} has no pictures.", "Copy the file again.")
        held_s = float((max(end for _, end in spans) - min(spans)[0]) * stream.time_base)
        promised_s = float((stream.duration or 0) * stream.time_base) or (container.duration or 0) / 1e6
    # Sound may go on for a while after the last picture, and not every file tells the length of the two apart.
    short = promised_s - held_s > _EARLY_END_S and held_s < _EARLY_END_PART * promised_s
    return len(spans), f"it holds pictures for {held_s:.1f} of {promised_s:.1f} seconds" if short else ""


def _display_matrix(container: "InputContainer", stream: "VideoStream") -> tuple[int, ...] | None:
    """Give what the first frame says; PyAV does not give what the stream says."""
    import av

    try:
        matrix: Any = next(container.decode(stream)).side_data.get("DISPLAYMATRIX")
    except StopIteration:
        raise ImageError(f"{container.name} has no frames.", "Copy the file again.") from None
    except av.FFmpegError as error:
        raise ImageError(f"{container.name} is damaged: {error}.", "Copy the file again.") from error
    return None if matrix is None else tuple(np.frombuffer(bytes(matrix), np.int32).tolist())


def frames_of(path: Path, skip: int, *, tolerant: bool = False) -> Generator[Frame, None, None]:
    """Decode all frames but the first ``skip``, in the order in which they are shown.

    Args:
        path: the video.
        skip: number of frames that are not given.
        tolerant: give damaged frames as far as they can be decoded, with a note.

    Raises:
        ImageError: the file is damaged.
    """
    count = 0
    with open_video(path) as (container, stream):
        for packet in container.demux(stream):
            for frame in _decoded(packet, path, count, tolerant=tolerant):
                count += 1
                if count > skip:
                    yield _frame(frame, path)


def _decoded(packet: "Packet[Any]", path: Path, count: int, *, tolerant: bool) -> "list[VideoFrame]":
    """Decode what comes after ``count`` frames; damage is an error, or a note where that is asked for."""
    import av

    try:
        frames: list[VideoFrame] = packet.decode()
        damage = "the decoder had to guess" if any(frame.is_corrupt for frame in frames) else ""
    except av.FFmpegError as error:
        frames, damage = [], str(error.strerror)
    if damage and not tolerant:
        raise ImageError(
            f"{path} is damaged after {count} frames: {damage}.",
            "Copy the file again, or give --tolerant to take what can be decoded.",
        )
    if damage:
        _log.warning("%s is damaged after %d frames: %s.", path, count, damage)
    return frames


def _frame(frame: "VideoFrame", path: Path) -> Frame:
    if frame.pts is None:
        raise ImageError(f"{path} has frames without a time stamp.", "Convert it to MP4 or MKV first.")
    pixels: Any = frame.to_ndarray(format="rgb24")
    return Frame(pixels, frame.pts, frame.duration or 0)


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
    """Give the frame in the numbers of the source, so that players turn both into the same colours."""
    from av.video.frame import VideoFrame

    colours = info.colours
    result = VideoFrame.from_ndarray(np.ascontiguousarray(frame.pixels), "rgb24").reformat(
        format="yuv420p",
        dst_colorspace=None if colours.matrix == _UNSPECIFIED else colours.matrix,
        dst_color_range=colours.range or None,
    )
    result.pts, result.time_base, result.duration = frame.time, info.time_base, frame.duration
    return result


def join(segments: Sequence[Path], source: Path, target: Path, info: VideoInfo) -> int:
    """Write the segments as one video, together with the sound and the subtitles of ``source`` as they are.

    Returns:
        The number of frames.

    Raises:
        ImageError: ``source`` cannot be read any more.
        OutputError: the format of ``target`` cannot hold a stream, or the disk is full.
    """
    import av

    with (
        open_video(source) as (original, pictures),
        atomic_path(target) as temporary,
        _writing(target, temporary, None) as container,
    ):
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
    """Add the sound and the subtitles of a video to another, with title and chapters; give them by their old index."""
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
        if packet.dts is not None:
            packet.stream = copies[packet.stream.index]
            yield packet


def _seconds(packet: "Packet[Any]") -> Fraction:
    assert packet.dts is not None
    assert packet.time_base is not None
    return packet.dts * packet.time_base


@contextmanager
def _writing(target: Path, file: Path, kind: str | None) -> "Iterator[OutputContainer]":
    """Open ``file`` for writing, and say what goes wrong of ``target``."""
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
