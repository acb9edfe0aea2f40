"""What reading and writing beside the computation saves: ``python -m tests.benchmarks.overlapped_upscaling``.

The same images through the same engine, overlapped and one step after the other, in turns in one process. What can be
won is the smaller of two: the time of reading and writing, and what the engine leaves of the machine meanwhile. An
engine on all cores of a CPU leaves nothing; one on a GPU, or on fewer threads than there are cores, leaves the rest.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from drc_deploy.files import sha256_of
from drc_deploy.images.finding import list_images
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.reading import read_image
from drc_deploy.images.writing import write_image
from drc_deploy.locate import SAMPLES, find_engine
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import RunOptions, run_jobs
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import FakeBackend, fake_info


@click.command()
@click.option("--engine", default="drn_xs", show_default=True)
@click.option("--data", type=click.Path(path_type=Path), default=SAMPLES, help="Folder of photographs.")
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--tile", type=int)
@click.option("--count", type=int, help="Use the first so many photographs.")
@click.option("--elsewhere", type=float, help="Milliseconds per tile of a stand-in for a GPU, instead of the engine.")
@click.option("--turns", default=5, show_default=True)
def main(
    engine: str, data: Path, threads: int, tile: int | None, count: int | None, elsewhere: float | None, turns: int
) -> None:
    """Print the times of both ways, and the median and range of their ratios."""
    images = list_images(data)[:count]
    if elsewhere is None:
        opened = Upscaler.open(find_engine(engine, Path()), threads=threads, tile=tile)
    else:
        opened = Upscaler(Elsewhere(elsewhere / 1000), tile=tile)
    with opened as upscaler, tempfile.TemporaryDirectory() as folder:
        ways = {"in turn": in_turn, "overlapped": overlapped}
        jobs = {name: [UpscaleJob(image, Path(folder, name, f"{image.stem}.png")) for image in images] for name in ways}
        seconds = {
            name: times[1:]  # the first turn warms up
            for name, times in timed(upscaler, ways, jobs, turns + 1).items()
        }
        for one, other in zip(*jobs.values(), strict=True):
            assert sha256_of(Path(one.output_name)) == sha256_of(Path(other.output_name))
        click.echo(f"{len(images)} images of {data}, {upscaler.device}, {threads} threads")
    for name, times in seconds.items():
        click.echo(f"{name:<12}{statistics.median(times):8.3f} s")
    ratios = [one / other for one, other in zip(*seconds.values(), strict=True)]
    click.echo(f"ratio       {statistics.median(ratios):8.3f}  ({min(ratios):.3f} to {max(ratios):.3f})")


class Elsewhere(FakeBackend):
    """Computes without this machine's processor: waits, then repeats pixels."""

    def __init__(self, tile_s: float) -> None:
        super().__init__(fake_info(scale=4))
        self._tile_s = tile_s

    def run(self, batch: Pixels) -> Pixels:
        """Wait for each tile and enlarge it."""
        time.sleep(self._tile_s * len(batch))
        return batch.repeat(4, axis=1).repeat(4, axis=2)


def timed(
    upscaler: Upscaler,
    ways: Mapping[str, Callable[[Upscaler, Sequence[UpscaleJob]], None]],
    jobs: dict[str, list[UpscaleJob]],
    turns: int,
) -> dict[str, list[float]]:
    """Return the seconds of every turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            start = time.perf_counter()
            way(upscaler, jobs[name])
            seconds[name].append(time.perf_counter() - start)
    return seconds


def overlapped(upscaler: Upscaler, jobs: Sequence[UpscaleJob]) -> None:
    """Upscale as the command does."""
    assert not run_jobs(upscaler, jobs, RunOptions(overwrite=True)).failed


def in_turn(upscaler: Upscaler, jobs: Sequence[UpscaleJob]) -> None:
    """Read, compute and write with the same functions, one after the other."""
    for job in jobs:
        picture = read_image(Path(job.input_name))
        layout = Layout.of(picture.pixels, upscaler.info.scale)
        metadata = picture.metadata.for_size(layout.width, layout.height)
        write_image(Path(job.output_name), upscaler.strips(picture.pixels), layout, metadata)


if __name__ == "__main__":
    main()
