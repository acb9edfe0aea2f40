"""Small videos with everything that is to be kept, and what is in a video."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TICK = Fraction(1, 12800)
TIMES = (0, 512, 1024, 2000, 2048, 4000, 4512, 5000, 5600, 6000)
"""In ticks: every frame has a duration of its own."""
BT709 = 1
SUBTITLES = "1\n00:00:00,100 --> 00:00:00,300\nHello\n\n2\n00:00:00,350 --> 00:00:00,450\nGoodbye\n"


def write_clip(
    path: Path, *, rotation: int = 0, subtitles: bool = False, sound: bool = True, transfer: int = BT709
) -> None:
    """Write ten frames of H.264, each of another colour with a bright corner, and sound."""
    import av

    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "1"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        context = video.codec_context
        context.time_base, context.sample_aspect_ratio = TICK, Fraction(4, 3)
        context.colorspace = context.color_primaries = context.color_range = BT709
        context.color_trc = transfer
        if rotation:
            video.set_display_rotation(rotation)
        audio = container.add_stream("aac", rate=44100, layout="stereo") if sound else None
        words = _subtitle_packets(path, container) if subtitles else []
        for number, time in enumerate(TIMES):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24").reformat(
                format="yuv420p", dst_colorspace=BT709
            )
            frame.pts, frame.time_base = time, TICK
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for number in range(20 if audio else 0):
            noise = np.random.default_rng(number).random((2, 1024)).astype(np.float32) / 10
            sample = av.AudioFrame.from_ndarray(noise, "fltp", "stereo")
            sample.rate, sample.pts, sample.time_base = 44100, 1024 * number, Fraction(1, 44100)
            container.mux(audio.encode(sample))  # type: ignore[union-attr]
        if audio:
            container.mux(audio.encode())
        container.mux(words)


def _subtitle_packets(path: Path, container: Any) -> list[Any]:
    import av

    text = path.with_suffix(".srt")
    text.write_text(SUBTITLES)
    with av.open(str(text)) as source:
        stream = container.add_stream_from_template(source.streams.subtitles[0], opaque=True)
        stream.metadata["language"] = "eng"
        packets = [packet for packet in source.demux() if packet.dts is not None]
    for packet in packets:
        packet.stream = stream
    return packets


def picture(number: int) -> NDArray[np.uint8]:
    """Return frame ``number``: (48, 64, 3) RGB."""
    pixels = np.full((48, 64, 3), (25 * number, 100, 220 - 20 * number), np.uint8)
    pixels[:16, :16] = 240
    return pixels


@dataclass(frozen=True)
class Content:
    """What is in a video."""

    pictures: list[NDArray[np.uint8]]
    times_s: list[Fraction]
    rotation: int
    pixel_aspect: Fraction
    colours: tuple[int, int, int, int]
    packets: dict[str, list[tuple[float, bytes]]]
    """Kind of stream -> time in seconds and bytes of every packet that was not made here."""
    languages: list[str | None]


def content(path: Path) -> Content:
    """Read all of a video."""
    import av

    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        colours = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        aspect = context.sample_aspect_ratio or Fraction(0)
        frames: list[Any] = list(container.decode(video=0))
    packets: dict[str, list[tuple[float, bytes]]] = {}
    with av.open(str(path)) as container:
        languages = [stream.language for stream in container.streams.subtitles]
        for packet in container.demux():
            if packet.dts is not None and packet.stream.type != "video":
                seconds = float(packet.pts * packet.time_base)
                packets.setdefault(packet.stream.type, []).append((seconds, bytes(packet)))
    return Content(
        [frame.to_ndarray(format="rgb24") for frame in frames],
        [frame.pts * frame.time_base for frame in frames],
        frames[0].rotation,
        aspect,
        colours,
        packets,
        languages,
    )
