"""Short videos of a kind, upscaled by a network that only enlarges."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import RunOptions
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.options import VideoOptions
from drc_deploy.runtime.video.upscale import OneVideo
from tests.runtime.fake_backend import FakeBackend, fake_info

av = pytest.importorskip("av")


Picture = Callable[[int], Any]


def bar(number: int, height: int = 32, width: int = 64) -> Any:
    pixels = np.full((height, width, 3), (60, 120, 200), np.uint8)
    pixels[:, 2 * number : 2 * number + 8] = 230
    return pixels


@dataclass(frozen=True)
class Kind:
    """How a video is encoded."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "4", "bf": "0"})
    rate: Fraction = Fraction(25)
    context: dict[str, Any] = field(default_factory=dict)


def write(
    path: Path,
    times: list[int],
    kind: Kind | None = None,
    *,
    picture: Picture = bar,
    last: int | None = None,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write pictures that begin at ``times``, in frames; the last one lasts ``last`` of them."""
    kind = kind or Kind()
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(kind.codec, rate=kind.rate, options=kind.options)
        stream.height, stream.width = picture(0).shape[:2]
        stream.pix_fmt = kind.pix_fmt
        stream.metadata.update(metadata or {})
        for name, value in kind.context.items():
            setattr(stream.codec_context, name, value)
        packets: list[Any] = []
        for number, time in enumerate(times):
            stored = "rgb48le" if picture(0).dtype == np.uint16 else "rgb24"
            frame = av.VideoFrame.from_ndarray(picture(number), stored).reformat(format=kind.pix_fmt, dst_colorspace=1)
            frame.pts, frame.time_base = time, 1 / kind.rate
            packets += stream.encode(frame)
        packets += stream.encode()
        if last:
            packets[-1].duration = last
        container.mux(packets)


def run(source: Path, target: Path, *, io_dtype: Any = "float32", scale: int = 2, **options: Any) -> FakeBackend:
    backend = FakeBackend(fake_info(scale=scale, io_dtype=io_dtype))
    OneVideo(Upscaler(backend), UpscaleJob(source, target), RunOptions(), {}, VideoOptions(**options)).upscale()
    return backend


def frames(path: Path, **dictionary: Any) -> list[Any]:
    with av.open(str(path), **dictionary) as container:
        return list(container.decode(video=0))
