"""Frames and properties of videos, by way of PyAV."""

import logging
import os
import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from drc_deploy.errors import ImageError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""ITU-T H.273, table 3."""
_ONLY_THE_FILE = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg",
}
"""Of FFmpeg: a playlist would have it open other files, or the network."""
_UNSPECIFIED = 2
_EARLY_END_S, _EARLY_END_PART = 1.0, 0.95


@dataclass(frozen=True, slots=True)
class Colours:
    """How the numbers of a video mean colours (ITU-T H.273)."""

    matrix: int
    """2 is unspecified, as for the other two."""
    primaries: int
    transfer: int
    range: int
    """0 is unspecified."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Properties of a video stream that the result keeps."""

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
    """Losses that a user should know of, each a sentence."""


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
    from av.stream import Disposition

    try:
        # Absolute, or FFmpeg takes what stands before a colon in a name for a protocol.
        container = av.open(str(path.absolute()), metadata_errors="replace", options=_ONLY_THE_FILE)
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist.", "Check the path.") from error
    except (av.FFmpegError, OSError) as error:
        raise ImageError(f"{path} cannot be read as a video: {error.strerror}.", "Copy the file again.") from error
    with container:
        streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
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


def video_info(path: Path, *, tolerant: bool = False) -> VideoInfo:
    """Read the properties that the result keeps.

    Args:
        path: the video.
        tolerant: take one that ends early for what is there, with a note.

    Raises:
        ImageError: as ``open_video``, or the pictures end before the file says that they do.
    """
    frame_count, missing = _length(path)
    if not missing and is_cut_off(path):
        missing = "the file says that it is longer than it is"
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
        first = _first_frame(container, stream)
        matrix: Any = first.side_data.get("DISPLAYMATRIX")
        notes = [f"{path} ends early: {missing}."] if missing else []
        notes += _notes(container, first, path)
        return VideoInfo(
            context.height,
            context.width,
            None if matrix is None else tuple(np.frombuffer(bytes(matrix), np.int32).tolist()),
            time_base,
            rate,
            frame_count,
            context.sample_aspect_ratio or Fraction(0),
            Colours(
                context.colorspace or _UNSPECIFIED,  # 0 is RGB, which the result is not
                context.color_primaries,
                context.color_trc,
                context.color_range,
            ),
            tuple(notes),
        )


def _notes(container: "InputContainer", first: "VideoFrame", path: Path) -> Iterator[str]:
    """Yield a note for everything that is lost, or looks worse than it could."""
    bits = max(component.bits for component in first.format.components)
    if bits > 8:
        yield f"{path} has {bits} bits a sample: the result has 8."
    if first.interlaced_frame:
        yield f"{path} is interlaced: deinterlace it first, or its lines show in the result."
    if len(container.streams.video) > 1:
        yield f"{path} has several video streams: only the first is used."
    if container.streams.data or container.streams.attachments:
        yield f"{path} has streams of data or attachments, which are left out."


def _length(path: Path) -> tuple[int, str]:
    """Count the pictures without decoding them, and say how many seconds are missing; nothing when none are.

    Of a file that is cut off FFmpeg only says that it ends.
    """
    with open_video(path) as (container, stream):
        spans: list[tuple[int, int]] = []
        for packet in container.demux(stream):
            begin = packet.dts if packet.pts is None else packet.pts
            if begin is not None:  # or it only says that there are no more
                spans.append((begin, begin + (packet.duration or 0)))
        if not spans or stream.time_base is None:
            raise ImageError(f"{path} has no pictures.", "Copy the file again.")
        held_s = float((max(end for _, end in spans) - min(spans)[0]) * stream.time_base)
        promised_s = float((stream.duration or 0) * stream.time_base) or (container.duration or 0) / 1e6
    # Sound may go on after the last picture, and not every file has a length for each of the two.
    short = promised_s - held_s > _EARLY_END_S and held_s < _EARLY_END_PART * promised_s
    return len(spans), f"it holds pictures for {held_s:.1f} of {promised_s:.1f} seconds" if short else ""


def _first_frame(container: "InputContainer", stream: "VideoStream") -> "VideoFrame":
    """Decode one frame: PyAV does not report all of its properties for the stream."""
    import av

    try:
        return next(container.decode(stream))
    except StopIteration:
        raise ImageError(f"{container.name} has no frames.", "Copy the file again.") from None
    except av.FFmpegError as error:
        raise ImageError(f"{container.name} is damaged: {error.strerror}.", "Copy the file again.") from error


def frames_of(path: Path, skip: int, *, tolerant: bool = False) -> Generator[Frame, None, None]:
    """Decode all frames but the first ``skip``, in the order in which they are shown.

    Args:
        path: the video.
        skip: number of frames to leave out.
        tolerant: take damaged frames as far as they can be decoded, with a note.

    Raises:
        ImageError: the file is damaged, or its frames change their size.
    """
    count, size = 0, (0, 0)
    with open_video(path) as (container, stream):
        for packet in container.demux(stream):
            for frame in _decoded(packet, path, count, tolerant=tolerant):
                size = size if count else (frame.width, frame.height)
                if (frame.width, frame.height) != size:
                    raise ImageError(
                        f"{path} changes from {size[0]}x{size[1]} to {frame.width}x{frame.height} pixels after {count} "
                        "frames.",
                        "Cut it there, and upscale the parts one after the other.",
                    )
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


_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""Elements of Matroska (RFC 9559, section 5): the header, and all that follows it."""


_BOXES = (b"ftyp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid", b"sidx", b"mfra")
"""Of MP4 and MOV (ISO/IEC 14496-12), at the top level; whatever else follows may be anything."""


def is_cut_off(path: Path) -> bool:
    """Return whether a Matroska, MP4 or AVI file says that it goes on where it ends; False where it does not say.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        head = stream.read(8)
        stream.seek(0)
        if head[:4] == _EBML:
            return _matroska_end(stream) > size
        if head[:4] == b"RIFF":
            return 8 + int.from_bytes(head[4:], "little") > size
        return _boxes_end(stream, size) > size


def _matroska_end(stream: BinaryIO) -> int:
    """Return where the segment ends; 0 where its size was not known when it was written."""
    stream.seek(len(_EBML))
    header = _vint(stream)
    stream.seek(header or 0, os.SEEK_CUR)
    if header is None or stream.read(len(_SEGMENT)) != _SEGMENT:
        return 0
    content = _vint(stream)
    return 0 if content is None else stream.tell() + content


def _vint(stream: BinaryIO) -> int | None:
    """Read a number of 1 to 8 bytes, as many as its first byte has leading zeros (RFC 8794); all ones is unknown."""
    (first,) = stream.read(1) or b"\0"
    length = 9 - first.bit_length()
    rest = stream.read(length - 1)
    value = int.from_bytes(bytes([first]) + rest, "big") - (1 << 7 * length)
    return None if first == 0 or len(rest) < length - 1 or value == (1 << 7 * length) - 1 else value


def _boxes_end(stream: BinaryIO, size: int) -> int:
    """Return where the last box ends that is known."""
    position = 0
    while position < size:
        stream.seek(position)
        length, kind, long_length = struct.unpack(">I4sQ", stream.read(16).ljust(16, b"\0"))
        length = long_length if length == 1 else length
        if kind not in _BOXES or length < 8:  # 0 is to the end
            break
        position += length
    return position
