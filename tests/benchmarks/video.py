"""What decoding and encoding cost next to the network: ``python -m tests.benchmarks.video``.

A clip is upscaled as the command does, and its decoded frames by the network alone, in turns in one process: one frame
after the other, and as a stream, whose frames are computed one per core. The time to join the segments and the check
before the first frame count as the video's.
"""

import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np

from drc_deploy.images.finding import list_images
from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import SAMPLES, find_engine
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import RunOptions
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.options import EncoderOptions, VideoOptions
from drc_deploy.runtime.video.reading import FrameOptions, frames_of, video_info
from drc_deploy.runtime.video.upscale import OneVideo
from tests.benchmarks.overlapped_upscaling import Elsewhere

RATE = Fraction(25)


@click.command()
@click.option("--engine", default="drn_e", show_default=True)
@click.option("--frames", default=96, show_default=True)
@click.option("--size", default="320x180", show_default=True)
@click.option("--preset", default="superfast", show_default=True, help="Of the encoder.")
@click.option("--threads", type=int)
@click.option("--elsewhere", type=float, help="Milliseconds per frame of a stand-in for a GPU, instead of the engine.")
@click.option("--turns", default=5, show_default=True)
def main(
    engine: str, frames: int, size: str, preset: str, threads: int | None, elsewhere: float | None, turns: int
) -> None:
    """Print frames per second of all three, and the median and range of the video's rate to those of the network."""
    width, height = map(int, size.split("x"))
    if elsewhere is None:
        opened = Upscaler.open(find_engine(engine, Path()), threads=threads)
    else:
        opened = Upscaler(Elsewhere(elsewhere / 1000))
    with opened as upscaler, tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "in.mp4")
        write_clip(clip, frames, height, width)
        decoded = [frame.pixels for frame in frames_of(clip, video_info(clip), FrameOptions())]
        options = VideoOptions(EncoderOptions("h264", preset=preset))
        job, run = UpscaleJob(clip, Path(folder, "out.mp4")), RunOptions(overwrite=True)
        ways: dict[str, Callable[[], object]] = {
            "frame by frame": lambda: deque(map(upscaler, decoded), maxlen=0),
            "stream": lambda: deque(upscaler.stream(decoded), maxlen=0),
            "video": lambda: OneVideo(upscaler, job, run, {}, options).upscale(),
        }
        for way in ways.values():  # they warm up
            way()
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(turns):
            for name, way in ways.items():
                times[name].append(_seconds(way))
    click.echo(f"{frames} frames of {size}, {upscaler.device}, {preset}")
    for name, seconds in times.items():
        ratios = [one / other for one, other in zip(seconds, times["video"], strict=True)]
        click.echo(
            f"{name:<15}{frames / statistics.median(seconds):8.2f} frames/s; the video's rate is "
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) of it"
        )


def _seconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def write_clip(path: Path, count: int, height: int, width: int) -> None:
    """Write frames that wander over a photograph."""
    import av

    photograph = read_rgb(list_images(SAMPLES)[0])
    while min(photograph.shape[0] - height, photograph.shape[1] - width) < count:
        photograph = np.concatenate([photograph, photograph[:, ::-1]], axis=1)
        photograph = np.concatenate([photograph, photograph[::-1]])
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE, options={"crf": "16"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(count):
            pixels = np.ascontiguousarray(photograph[number : number + height, number : number + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
