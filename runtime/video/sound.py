"""Sound, subtitles and what else of a video is copied into its result; sound may be encoded anew."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any

from drc_deploy.errors import ImageError, OutputError
from drc_deploy.runtime.video.options import Sound
from drc_deploy.runtime.video.reading import packets_of

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream

_log = logging.getLogger(__name__)

_ENCODERS = {"aac": "aac", "opus": "libopus"}
_OPUS_RATE_HZ = 48_000
_FOR_OPUS = {"5.1(side)": "5.1", "5.0(side)": "5.0", "2.1": "stereo", "3.1": "5.1", "4.0": "quad", "quad(side)": "quad"}
"""Layouts that Opus has no order for, as AC-3 and DTS have them."""
_ABOUT_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder")
_CANNOT_HOLD = {
    "audio": ("sound", "Give --audio {}, which converts it"),
    "subtitle": ("subtitles", "Give --no-subtitles, which leaves them out"),
}
"""What to call a kind of stream, and what to do where a format does not hold it."""
_GAP_S = 0.05
_BIT_RATE_A_CHANNEL = 96_000
"""High for either encoder: the sound was compressed once already."""
_UNNAMED_LAYOUTS = {"1 channels": "mono", "2 channels": "stereo", "6 channels": "5.1", "8 channels": "7.1"}


@dataclass(frozen=True, slots=True)
class Copying:
    """How everything but the pictures gets into the result."""

    sound: Sound = "copy"
    subtitles: bool = True
    tolerant: bool = False
    """Leave out what of the sound is damaged where it is encoded anew, with a note."""


@dataclass(slots=True)
class _Copied:
    """A stream whose packets stay as they are."""

    stream: "Stream"

    def packets(self, packet: "Packet[Any]") -> "Iterator[Packet[Any]]":
        if packet.dts is None and packet.pts is None:  # says that there are no more
            return
        if packet.dts is None:
            packet.dts = packet.pts
        packet.stream = self.stream
        yield packet


@dataclass(slots=True)
class _Encoded:
    """Sound that is decoded and encoded anew."""

    stream: "AudioStream"
    tolerant: bool
    next_sample: int | None = None
    """Where the next one follows without a gap: containers round the times of sound."""

    def packets(self, packet: "Packet[Any]") -> "Iterator[Packet[Any]]":
        for frame in self._decoded(packet):
            frame.pts, frame.time_base = self._begin(frame), Fraction(1, frame.sample_rate)
            self.next_sample = frame.pts + frame.samples
            yield from self.stream.encode(frame)
        if packet.dts is None and packet.pts is None:  # there are no more
            yield from self.stream.encode(None)

    def _decoded(self, packet: "Packet[Any]") -> "list[AudioFrame]":
        import av

        try:
            frames: list[Any] = packet.decode()
        except av.FFmpegError as error:
            name = packet.stream.container.name
            if not self.tolerant:
                raise ImageError(
                    f"the sound of {name} is damaged: {error.strerror}.",
                    "Give --tolerant to leave out that part, or --audio copy.",
                ) from error
            _log.warning("A part of the sound of %s is damaged and left out.", name)
            return []
        return frames

    def _begin(self, frame: "AudioFrame") -> int:
        if frame.pts is None or frame.time_base is None:
            return self.next_sample or 0
        said = round(frame.pts * frame.time_base * frame.sample_rate)
        gap = self.next_sample is None or abs(said - self.next_sample) > _GAP_S * frame.sample_rate
        return said if gap or self.next_sample is None else self.next_sample


class OtherStreams:
    """Everything of a video but its pictures, in its result: sound, subtitles, fonts, title and chapters."""

    def __init__(self, original: "InputContainer", container: "OutputContainer", how: Copying) -> None:
        """Add the streams to ``container``.

        Raises:
            OutputError: it cannot hold one of them.
        """
        self._original = original
        self._parts: dict[int, _Copied | _Encoded] = {}
        kept = {key: value for key, value in original.metadata.items() if key.lower() not in _ABOUT_THE_FILE}
        container.metadata.update(kept)
        if chapters := original.chapters():
            container.set_chapters(chapters)
        for stream in original.streams.audio if how.sound != "none" else ():
            part = _Copied(_copy(container, stream)) if how.sound == "copy" else _encoder(container, stream, how)
            self._parts[stream.index] = part
            _describe(part.stream, stream)
        for subtitles in original.streams.subtitles if how.subtitles else ():
            copy = _copy(container, subtitles)
            self._parts[subtitles.index] = _Copied(copy)
            _describe(copy, subtitles)
        if "matroska" in container.format.name:
            for attachment in original.streams.attachments:  # fonts of the subtitles
                container.add_stream_from_template(attachment)

    def packets(self, start_s: Fraction, most: int | None = None) -> "Iterator[Packet[Any]]":
        """Yield the packets of the result.

        Args:
            start_s: the time of the original that becomes 0.
            most: how many packets of the original are taken; None: all.
        """
        if self._parts:
            packets = packets_of(self._original, [self._original.streams[index] for index in self._parts])
            for packet in islice(packets, most):
                for made in self._parts[packet.stream.index].packets(packet):
                    assert made.time_base is not None
                    shift = round(start_s / made.time_base)
                    made.pts = None if made.pts is None else made.pts - shift
                    made.dts = None if made.dts is None else made.dts - shift
                    yield made


def _copy(container: "OutputContainer", stream: "Stream") -> "Stream":
    try:
        copy: Stream = container.add_stream_from_template(stream, opaque=True)
    except ValueError as error:
        what, hint = _CANNOT_HOLD[stream.type]
        kind = "an unknown kind"
        if stream.codec_context:
            kind = stream.codec_context.codec.canonical_name
        elif stream.type == "audio":
            hint = "Give --audio none, which leaves it out"
        raise OutputError(
            f"{container.format.name} cannot hold {what} of {kind}.",
            f"{hint.format('opus' if container.format.name == 'webm' else 'aac')}, or another format with -o.",
        ) from error
    return copy


def _encoder(container: "OutputContainer", stream: "AudioStream", how: Copying) -> _Encoded:
    source = stream.codec_context
    if source is None:
        raise OutputError("the sound is of an unknown kind and cannot be encoded anew.", "Give --audio none.")
    rate = _OPUS_RATE_HZ if how.sound == "opus" else source.sample_rate
    layout = _UNNAMED_LAYOUTS.get(source.layout.name, source.layout.name)
    layout = _FOR_OPUS.get(layout, layout) if how.sound == "opus" else layout
    bit_rate = _BIT_RATE_A_CHANNEL * source.layout.nb_channels
    encoder: Any = container.add_stream(_ENCODERS[how.sound], rate=rate, layout=layout, bit_rate=bit_rate)
    return _Encoded(encoder, how.tolerant)


def _describe(copy: "Stream", stream: "Stream") -> None:
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
