"""A folder of photographs against one bare ONNX Runtime session: ``python -m tests.benchmarks.folder ENGINE.onnx...``.

The folder goes through what ``drc-deploy upscale FOLDER`` runs: decoding, tiling, computing, blending and writing PNG
files. The bare session has all cores and does nothing but run the same tiles, which lie in memory, one after the other.
Both in turns in one process; what is told is the pixel rate of the folder in parts of that of the session.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnxruntime

from drc_deploy.engine_info import INPUT_NAME, OUTPUT_NAME
from drc_deploy.images.finding import list_images
from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import SAMPLES
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import RunOptions, run_jobs
from drc_deploy.runtime.upscaler import Upscaler


@click.command()
@click.argument("engines", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=SAMPLES, help="Folder of photographs.")
@click.option("--count", type=int, help="Use so many photographs, of all sizes.")
@click.option("--turns", default=5, show_default=True)
def main(engines: tuple[Path, ...], data: Path, count: int | None, turns: int) -> None:
    """Print the times of both, and the median and range of the ratios of all turns."""
    photographs = chosen(list_images(data), count)
    for engine in engines:
        with Upscaler.open(engine) as upscaler, tempfile.TemporaryDirectory() as folder:
            jobs = [UpscaleJob(photograph, Path(folder, f"{photograph.stem}.png")) for photograph in photographs]
            tiles = [tile for photograph in photographs for tile in tiles_of(upscaler, read_rgb(photograph))]
            session = onnxruntime.InferenceSession(str(engine), providers=["CPUExecutionProvider"])

            def whole(upscaler: Upscaler = upscaler, jobs: list[UpscaleJob] = jobs) -> None:
                assert not run_jobs(upscaler, jobs, RunOptions(overwrite=True)).failed

            def bare(session: onnxruntime.InferenceSession = session, tiles: list[Pixels] = tiles) -> None:
                for tile in tiles:
                    session.run([OUTPUT_NAME], {INPUT_NAME: tile})

            pairs = in_turns(whole, bare, turns)
        pixels = sum(tile.shape[1] * tile.shape[2] for tile in tiles)
        click.echo(f"{engine.stem}: {len(photographs)} photographs, {len(tiles)} tiles, {pixels / 1e6:.2f} Mpixels")
        for name, seconds in zip(("drc-deploy, files", "bare session"), zip(*pairs, strict=True), strict=True):
            click.echo(f"  {name:<18}{statistics.median(seconds):8.2f} s")
        ratios = [bare_s / whole_s for whole_s, bare_s in pairs]
        told = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        click.echo(f"  {told} times the pixel rate of the bare session")


def chosen(photographs: list[Path], count: int | None) -> list[Path]:
    """Choose evenly among the photographs in the order of their file sizes."""
    if count is None or count >= len(photographs):
        return photographs
    by_size = sorted(photographs, key=lambda path: (path.stat().st_size, path))
    return by_size[:: len(photographs) // count][:count]


def tiles_of(upscaler: Upscaler, image: Pixels) -> list[Pixels]:
    """Return the tiles that an image is cut into, each as a batch of one."""
    plan = upscaler.plan(*image.shape[:2])
    height, width = plan.tile
    corners = itertools.product((row.start for row in plan.rows), (column.start for column in plan.columns))
    return [np.ascontiguousarray(image[top : top + height, left : left + width][None]) for top, left in corners]


def in_turns(one: Callable[[], None], other: Callable[[], None], turns: int) -> list[tuple[float, float]]:
    """Return the seconds of both in every turn, after one that warms up."""
    return [(seconds(one), seconds(other)) for _ in range(turns + 1)][1:]


def seconds(run: Callable[[], None]) -> float:
    """Time one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
