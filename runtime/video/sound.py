"""Sound, subtitles and what else of a video is copied into its result; sound may be encoded anew."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any

from drc_deploy.runtime.video.options import Sound
from drc_deploy.runtime.video.reading import packets_of

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream

_ENCODERS = {"aac": "aac", "opus": "libopus"}
_OPUS_RATE_HZ = 48_000
_GAP_S = 0.05
_BIT_RATE_A_CHANNEL = 96_000
"""High for either encoder: the sound was compressed once already."""
_UNNAMED_LAYOUTS = {"1 channels": "mono", "2 channels": "stereo", "6 channels": "5.1", "8 channels": "7.1"}


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
    next_sample: int | None = None
    """Where the next one follows without a gap: containers round the times of sound."""

    def packets(self, packet: "Packet[Any]") -> "Iterator[Packet[Any]]":
        frames: list[Any] = packet.decode()
        for frame in frames:
            frame.pts, frame.time_base = self._begin(frame), Fraction(1, frame.sample_rate)
            self.next_sample = frame.pts + frame.samples
            yield from self.stream.encode(frame)
        if packet.dts is None and packet.pts is None:  # there are no more
            yield from self.stream.encode(None)

    def _begin(self, frame: "AudioFrame") -> int:
        if frame.pts is None or frame.time_base is None:
            return self.next_sample or 0
        said = round(frame.pts * frame.time_base * frame.sample_rate)
        gap = self.next_sample is None or abs(said - self.next_sample) > _GAP_S * frame.sample_rate
        return said if gap or self.next_sample is None else self.next_sample


class OtherStreams:
    """Everything of a video but its pictures, in its result: sound, subtitles, fonts, title and chapters."""

    def __init__(self, original: "InputContainer", container: "OutputContainer", sound: Sound) -> None:
        """Add the streams to ``container``.

        Raises:
            ValueError: it cannot hold one of them.
        """
        self._original = original
        self._parts: dict[int, _Copied | _Encoded] = {}
        container.metadata.update(original.metadata)
        if chapters := original.chapters():
            container.set_chapters(chapters)
        for stream in original.streams.audio if sound != "none" else ():
            part = _Copied(_copy(container, stream)) if sound == "copy" else _encoder(container, stream, sound)
            self._parts[stream.index] = part
            _describe(part.stream, stream)
        for subtitles in original.streams.subtitles:
            copy = _copy(container, subtitles)
            self._parts[subtitles.index] = _Copied(copy)
            _describe(copy, subtitles)
        if "matroska" in container.format.name:
            for attachment in original.streams.attachments:  # fonts of the subtitles
                container.add_stream_from_template(attachment)

    def packets(self, most: int | None = None) -> "Iterator[Packet[Any]]":
        """Yield the packets of the result; those of the first ``most`` of the original, where that is a number."""
        if self._parts:
            packets = packets_of(self._original, [self._original.streams[index] for index in self._parts])
            for packet in islice(packets, most):
                yield from self._parts[packet.stream.index].packets(packet)


def _copy(container: "OutputContainer", stream: "Stream") -> "Stream":
    copy: Stream = container.add_stream_from_template(stream, opaque=True)
    return copy


def _encoder(container: "OutputContainer", stream: "AudioStream", sound: Sound) -> _Encoded:
    source = stream.codec_context
    rate = _OPUS_RATE_HZ if sound == "opus" else source.sample_rate
    layout = _UNNAMED_LAYOUTS.get(source.layout.name, source.layout.name)
    bit_rate = _BIT_RATE_A_CHANNEL * source.layout.nb_channels
    encoder: Any = container.add_stream(_ENCODERS[sound], rate=rate, layout=layout, bit_rate=bit_rate)
    return _Encoded(encoder)


def _describe(copy: "Stream", stream: "Stream") -> None:
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
