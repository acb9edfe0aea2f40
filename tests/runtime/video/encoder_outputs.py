"""Videos as encoders and cameras write them, made by PyAV, and what a player that believes their tags would show."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 48, 64
COUNT = 12
CONSTANT = tuple(range(COUNT))
VARIABLE = (0, 1, 2, 4, 5, 9, 10, 11, 12, 14, 20, 21)
_BLOCKS = ((230, 40, 30), (30, 200, 60), (40, 60, 220), (230, 220, 40))
BLOCK = 24
_SOUND_RATE_HZ = 48_000


@dataclass(frozen=True)
class Made:
    """How a video is made."""

    suffix: str
    codec: str
    pix_fmt: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    sound: str | None = "aac"
    sound_samples: int = 1024
    """In a frame."""
    sound_delay_s: float = 0
    rate: Fraction = Fraction(25)
    times: tuple[int, ...] = CONSTANT
    """Of the pictures, in frames."""
    tags: tuple[int, int, int, int] = (1, 1, 1, 1)
    """Matrix, range, primaries and transfer."""
    cut: int = 0
    """So many pictures are cut off at the beginning, without being encoded again."""
    decoder: str | None = None
    """What keeps the alpha."""


def picture(number: int, *, alpha: bool = False) -> NDArray[np.uint8]:
    """Return picture ``number``: (48, 64, 3) RGB blocks, or RGBA with a right half that is transparent."""
    pixels = np.full((HEIGHT, WIDTH, 4 if alpha else 3), 128, np.uint8)
    for index, (top, left) in enumerate(((0, 0), (0, 40), (24, 0), (24, 40))):
        pixels[top : top + BLOCK, left : left + BLOCK, :3] = _BLOCKS[(index + number) % 4]
    pixels[:, 28:36, :3] = 20 * number
    if alpha:
        pixels[:, :, 3] = np.where(np.arange(WIDTH) < WIDTH // 2, 255, 0)
    return pixels


def write(path: Path, made: Made) -> None:
    """Write the video."""
    if made.cut:
        whole = path.with_stem("whole")
        _encode(whole, made)
        _cut(whole, path, made.cut / made.rate)
        whole.unlink()
    else:
        _encode(path, made)


def _encode(path: Path, made: Made) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(made.codec, rate=made.rate, options=made.options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, made.pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = made.tags
        if made.decoder:
            stream.metadata["alpha_mode"] = "1"
        audio: Any = None
        if made.sound:
            audio = container.add_stream(made.sound, rate=_SOUND_RATE_HZ, layout="stereo", bit_rate=128_000)
        for number, time in enumerate(made.times):
            container.mux(stream.encode(_frame(number, time, made)))
        container.mux(stream.encode())
        if audio:
            for sample in _sound(made, audio):
                container.mux(audio.encode(sample))
            container.mux(audio.encode())


def _frame(number: int, time: int, made: Made) -> Any:
    import av

    matrix = made.tags[0] if made.tags[0] not in (0, 2) else 6
    alpha = "a" in made.pix_fmt.removeprefix("gray")
    frame = av.VideoFrame.from_ndarray(picture(number, alpha=alpha), "rgba" if alpha else "rgb24").reformat(
        format=made.pix_fmt, dst_colorspace=matrix, dst_color_range=made.tags[1] or 1
    )
    frame.pts, frame.time_base = time, 1 / made.rate
    return frame


def _sound(made: Made, audio: Any) -> Iterator[Any]:
    import av

    kind = audio.format.name
    size = made.sound_samples
    delay = round(made.sound_delay_s * _SOUND_RATE_HZ)
    for number in range(round(made.times[-1] / made.rate * _SOUND_RATE_HZ / size)):
        noise = np.random.default_rng(number).random((2, size)) / 10
        types = {"flt": np.float32, "s16": np.int16, "s32": np.int32}
        samples = (noise if "flt" in kind else noise * 30_000).astype(types[kind.removesuffix("p")])
        planar = kind.endswith("p")
        frame = av.AudioFrame.from_ndarray(samples if planar else samples.T.reshape(1, -1).copy(), kind, "stereo")
        frame.rate, frame.pts, frame.time_base = _SOUND_RATE_HZ, delay + size * number, Fraction(1, _SOUND_RATE_HZ)
        yield frame


def _cut(whole: Path, path: Path, seconds: Fraction) -> None:
    """Copy what follows ``seconds``: pictures before it stay in the file and are not shown (an edit list)."""
    import av

    with av.open(str(whole)) as source, av.open(str(path), "w") as container:
        copies = {s.index: container.add_stream_from_template(s, opaque=True) for s in source.streams}
        for packet in source.demux():
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            offset = round(seconds / packet.time_base)
            if packet.stream.type != "video" and packet.pts < offset:
                continue
            packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
            packet.stream = copies[packet.stream.index]
            container.mux(packet)


@dataclass(frozen=True)
class Shown:
    """What a player shows and plays."""

    times_s: list[float]
    pictures: list[NDArray[np.uint8]]
    sound: list[bytes]
    sound_begins_s: float
    tags: tuple[int, int, int, int]
    bits: int


def shown(path: Path, decoder: str | None = None, *, matrix: int | None = None) -> Shown:
    """Decode a video, with the colours that its tags say, or those of ``matrix`` where it has none."""
    import av
    from av.video.reformatter import Interpolation as Use

    frames: list[Any] = []
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        using: Any = av.CodecContext.create(decoder, "r") if decoder else stream.codec_context
        for packet in container.demux(stream):
            frames += using.decode(packet)
        context = stream.codec_context
        tags = (context.colorspace, context.color_range, context.color_primaries, context.color_trc)
    sound: list[Any] = []
    with av.open(str(path)) as container:
        if container.streams.audio:
            sound = [packet for packet in container.demux(audio=0) if packet.pts is not None]
            begins = float(sound[0].pts * sound[0].time_base)
    return Shown(
        [float(frame.pts * frame.time_base) for frame in frames],
        [
            frame.reformat(
                format="rgba",
                src_colorspace=None if frame.format.is_rgb else matrix or tags[0],
                src_color_range=None if frame.format.is_rgb else tags[1] or 1,
                interpolation=Use.BILINEAR | Use.ACCURATE_RND | Use.FULL_CHR_H_INT | Use.FULL_CHR_H_INP,
            ).to_ndarray()
            for frame in frames
        ],
        [bytes(packet) for packet in sound],
        begins if sound else 0.0,
        tags,
        max(component.bits for component in frames[0].format.components),
    )


def blocks(pixels: NDArray[np.uint8], scale: int) -> NDArray[np.int64]:
    """Return the mean RGBA of the middle of each block; where that is transparent, RGB are 0."""
    middles = [(12, 12), (12, 52), (36, 12), (36, 52)]
    means = [
        pixels[(y - 4) * scale : (y + 4) * scale, (x - 4) * scale : (x + 4) * scale].mean(axis=(0, 1)).round()
        for y, x in middles
    ]
    return np.array([mean * (mean[3] > 0) for mean in means], np.int64)
