"""Frames and properties of videos, by way of PyAV."""

import logging
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from drc_deploy.errors import ImageError
from drc_deploy.runtime.video.clock import Clock
from drc_deploy.runtime.video.colours import Colours, HdrMetadata, colours_of, hdr_metadata, to_rgb
from drc_deploy.runtime.video.container import is_cut_off
from drc_deploy.runtime.video.deinterlacing import deinterlaced

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

_ONLY_THE_FILE = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg",
}
"""Of FFmpeg: a playlist would have it open other files, or the network."""
_GENERATE_PTS = 0x1
"""FFmpeg's AVFMT_FLAG_GENPTS, which PyAV sets: its guesses are in the order of the file, not of showing."""
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders leave out the alpha, which is a second stream within."""
_LOOKED_AT_FRAMES = 8
"""So many are decoded to see whether a video is interlaced."""
_EARLY_END_S, _EARLY_END_PART = 1.0, 0.95
_JUMP_S = 0.5
_OPAQUE = 255


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
    first: int
    """When the first picture is shown, in ticks."""
    end: int
    """When the last picture ends, in ticks after ``first``; not after it began where that is unknown."""
    start_s: Fraction
    """The time of the file that becomes 0: a recording of a broadcast begins hours after it."""
    pixel_aspect: Fraction
    colours: Colours
    hdr: HdrMetadata | None
    """None: a standard dynamic range."""
    bits: int
    """Of a sample."""
    alpha: bool
    interlaced: bool
    notes: tuple[str, ...]
    """Losses that a user should know of, each a sentence."""

    @property
    def step(self) -> int:
        """How many ticks a picture takes on average."""
        return _step(self.rate, self.time_base)

    @property
    def turned(self) -> bool:
        """Whether players turn it by a quarter, as those of a telephone held upright."""
        along, across = (self.display_matrix or (1, 0))[:2]
        return abs(across) > abs(along)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a video."""

    pixels: NDArray[Any]
    """(H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16, as stored: players turn it as ``VideoInfo.display_matrix``
    says."""
    time: int
    """In ticks after the first picture."""
    duration: int
    """In ticks; 0 is unknown."""


def _lacks_its_end(path: Path) -> bool:
    try:
        return is_cut_off(path)
    except OSError:  # that it cannot be read is what counts
        return False


@contextmanager
def open_video(path: Path) -> "Iterator[tuple[InputContainer, VideoStream]]":
    """Open a video and find its pictures.

    Raises:
        ImageError: it cannot be read, or holds no video.
    """
    import av

    try:
        # Absolute, or FFmpeg takes what stands before a colon in a name for a protocol.
        container = av.open(str(path.absolute()), metadata_errors="replace", options=_ONLY_THE_FILE)
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist.", "Check the path.") from error
    except (av.FFmpegError, OSError) as error:
        if _lacks_its_end(path):
            raise ImageError(
                f"{path} ends too early: what says where its pictures are is missing.",
                "Copy the file again, or record it again.",
            ) from error
        raise ImageError(
            f"{path} cannot be read as a video: {error.strerror}.", "Copy the file again, or check that it is a video."
        ) from error
    container.flags &= ~_GENERATE_PTS
    with container:
        streams = _moving(container)
        if not streams:
            raise ImageError(f"{path} holds no video.", "Give a video file.")
        if streams[0].codec_context is None:
            raise ImageError(f"{path} holds video of an unknown kind.", "Convert it to H.264 first.")
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def _moving(container: "InputContainer") -> "list[VideoStream]":
    """Return the streams of pictures but for covers, which are pictures of a piece of music or a film."""
    from av.stream import Disposition

    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def packets_of(container: "InputContainer", streams: "Stream | list[Stream]") -> "Iterator[Packet[Any]]":
    """Yield the packets of one stream or of several, as they lie in the file.

    Raises:
        ImageError: it is damaged so that none can be found any more.
    """
    import av

    try:
        yield from container.demux(streams)
    except av.FFmpegError as error:
        raise ImageError(f"{container.name} is damaged: {error.strerror}.", "Copy the file again.") from error


def video_info(path: Path, *, tolerant: bool = False) -> VideoInfo:
    """Read the properties that the result keeps.

    Args:
        path: the video.
        tolerant: take one that ends early for what is there, with a note.

    Raises:
        ImageError: as ``open_video``, or the pictures end before the file says that they do.
    """
    frame_count, end, missing = _length(path)
    if not missing and is_cut_off(path):
        missing = "the file says that it is longer than it is"
    if missing and not tolerant:
        raise ImageError(
            f"{path} ends early: {missing}.",
            "Copy the file again, or give --tolerant to take the pictures that it has.",
        )
    with open_video(path) as (container, stream):
        if stream.time_base is None:
            raise ImageError(f"{path} has no time stamps.", "Convert it to MP4 or MKV first.")
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        frames = _first_frames(container, stream)
        first = Clock(_step(rate, stream.time_base)).time_of(frames[0])
        matrix: Any = frames[0].side_data.get("DISPLAYMATRIX")
        colours, components = colours_of(frames[0], stream.codec_context), frames[0].format.components
        notes = [f"{path} ends early: {missing}."] if missing else []
        return VideoInfo(
            height=frames[0].height,
            width=frames[0].width,
            display_matrix=None if matrix is None else tuple(np.frombuffer(bytes(matrix), np.int32).tolist()),
            time_base=stream.time_base,
            rate=rate,
            frame_count=frame_count,
            first=first,
            end=end - first,
            start_s=Fraction(container.start_time or 0, 1_000_000),
            pixel_aspect=stream.codec_context.sample_aspect_ratio or Fraction(0),
            colours=colours,
            hdr=hdr_metadata(frames[0]) if colours.hdr else None,
            bits=max(component.bits for component in components),
            alpha=any(component.is_alpha for component in components) or _has_clear_palette(frames),
            interlaced=any(frame.interlaced_frame for frame in frames),
            notes=(*notes, *_notes(container, colours, path)),
        )


def _notes(container: "InputContainer", colours: Colours, path: Path) -> Iterator[str]:
    """Yield a note for everything that is lost, or looks worse than it could."""
    if colours.hdr:
        yield (
            f"{path} has a high dynamic range ({colours.hdr}), which is kept; networks were trained on standard range, "
            "so look at the result."
        )
    if len(_moving(container)) > 1:
        yield f"{path} has several video streams: only the first is used."
    if any("timecode" not in stream.metadata for stream in container.streams.data):  # which is kept
        yield f"{path} has streams of data, which are left out."


def _has_clear_palette(frames: "list[VideoFrame]") -> bool:
    """Return whether a palette has a colour that is not opaque."""
    shown: list[Any] = [frame.to_ndarray(format="rgba") for frame in frames if frame.format.has_palette]
    return any(pixels[:, :, 3].min() < _OPAQUE for pixels in shown)


def _step(rate: Fraction, time_base: Fraction) -> int:
    """Return how many ticks a picture takes."""
    return max(round(1 / (rate * time_base)), 1)


def _length(path: Path) -> tuple[int, int, str]:
    """Count the pictures without decoding them; return when the last one ends, too, and how many seconds are missing.

    Of a file that is cut off FFmpeg only says that it ends.
    """
    with open_video(path) as (container, stream):
        spans: list[tuple[int, int]] = []
        decoded = None
        for packet in packets_of(container, stream):
            if packet.dts is not None and packet.time_base is not None:
                if decoded is not None and (decoded - packet.dts) * packet.time_base > _JUMP_S:
                    raise ImageError(
                        f"the clock of {path} jumps back after {len(spans)} pictures: it is several recordings in one.",
                        "Cut it there, or write its times anew with a tool such as ffmpeg.",
                    )
                decoded = packet.dts
            begin = packet.dts if packet.pts is None else packet.pts
            if begin is not None:  # or it only says that there are no more
                spans.append((begin, begin + (packet.duration or 0)))
        if not spans or stream.time_base is None:
            raise ImageError(f"{path} has no pictures.", "Copy the file again.")
        end = max(end for _, end in spans)
        origin = 0 if "matroska" in container.format.name else min(spans)[0]  # its lengths are times of the end
        held_s = float((end - origin) * stream.time_base)
        promised_s = float((stream.duration or 0) * stream.time_base) or _said_s(stream)
        promised_s = promised_s or (container.duration or 0) / 1e6
    # Sound may go on after the last picture, and not every file has a length for each of the two.
    short = promised_s - held_s > _EARLY_END_S and held_s < _EARLY_END_PART * promised_s
    return len(spans), end, f"it holds pictures for {held_s:.1f} of {promised_s:.1f} seconds" if short else ""


def _said_s(stream: "VideoStream") -> float:
    """Return the seconds that a Matroska file says for one of its streams, as FFmpeg and mkvmerge write it; or 0."""
    said = next((value for key, value in stream.metadata.items() if key.upper().startswith("DURATION")), "")
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", said, re.ASCII)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0


def _first_frames(container: "InputContainer", stream: "VideoStream") -> "list[VideoFrame]":
    """Decode some frames: PyAV does not report all of their properties for the stream."""
    import av

    decoder = _decoder(stream)
    try:
        decoded = (frame for packet in packets_of(container, stream) for frame in decoder.decode(packet))
        frames = list(islice(decoded, _LOOKED_AT_FRAMES))
    except av.FFmpegError as error:
        raise ImageError(f"{container.name} is damaged: {error.strerror}.", "Copy the file again.") from error
    if not frames:
        raise ImageError(f"{container.name} has no frames.", "Copy the file again.")
    return frames


def _decoder(stream: "VideoStream") -> "VideoCodecContext":
    """Return a decoder that keeps the alpha."""
    import av

    says_alpha = any(key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items())
    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    known: Any = stream.codec_context
    decoder: Any = av.CodecContext.create(name, "r") if says_alpha and name else known
    return cast("VideoCodecContext", decoder)


@dataclass(frozen=True, slots=True)
class FrameOptions:
    """How the frames of a video are read."""

    deep: bool = False
    """As 16 bits a sample."""
    alpha: bool = False
    """With the alpha that ``VideoInfo`` reports."""
    deinterlace: bool = False
    tolerant: bool = False
    """Take damaged frames as far as they can be decoded, with a note."""


def frames_of(path: Path, info: VideoInfo, options: FrameOptions, *, skip: int = 0) -> Generator[Frame, None, None]:
    """Decode all frames but the first ``skip``, in the order in which they are shown.

    Raises:
        ImageError: the file is damaged, or its frames change their size or cannot be converted to RGB.
    """
    import av

    with open_video(path) as (container, stream):
        frames = _frames(container, stream, info, options)
        if options.deinterlace:
            frames = deinterlaced(frames, info.time_base, flagged=info.interlaced)
        for frame in islice(frames, skip, None):
            assert frame.pts is not None  # by the clock
            try:
                pixels = to_rgb(frame, info.colours, deep=options.deep, alpha=options.alpha)
            except (MemoryError, BlockingIOError):  # no memory or no thread is left: nothing is wrong with the file
                raise
            except (av.FFmpegError, ValueError) as error:
                raise ImageError(
                    f"{path} has pictures of {frame.format.name}, which cannot be converted: {error}.",
                    "Convert it to the colours of BT.709 first.",
                ) from error
            yield Frame(pixels, frame.pts - info.first, frame.duration or 0)


def _frames(
    container: "InputContainer", stream: "VideoStream", info: VideoInfo, options: FrameOptions
) -> "Iterator[VideoFrame]":
    """Decode all frames; each has a time, and those are later and later."""
    path, decoder = Path(container.name), _decoder(stream)
    clock = Clock(info.step)
    count, looks_whole = 0, not (info.interlaced or options.deinterlace)
    for packet in packets_of(container, stream):
        for frame in _decoded(packet, decoder, path, count, tolerant=options.tolerant):
            if (frame.width, frame.height) != (info.width, info.height):
                raise ImageError(
                    f"{path} changes from {info.width}x{info.height} to {frame.width}x{frame.height} pixels after "
                    f"{count} frames.",
                    "Cut it there, and upscale the parts one after the other.",
                )
            if frame.interlaced_frame and looks_whole:
                _log.warning("%s is interlaced after %d pictures. Give --deinterlace, or cut it there.", path, count)
                looks_whole = False
            count += 1
            frame.pts = clock.time_of(frame)
            yield frame


def _decoded(
    packet: "Packet[Any]", decoder: "VideoCodecContext", path: Path, count: int, *, tolerant: bool
) -> "list[VideoFrame]":
    """Decode what comes after ``count`` frames; damage is an error, or a note where that is asked for."""
    import av

    try:
        frames = decoder.decode(packet)
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
