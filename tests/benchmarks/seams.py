"""How far tiles of a network with channel attention are from the whole: ``python -m tests.benchmarks.seams ENGINE``.

Each tile sees its own channel means. No overlap makes that exact; this tells what tile and overlap buy.
"""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from drc_deploy.errors import UsageError
from drc_deploy.images.finding import list_images
from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import SAMPLES
from drc_deploy.metrics import UInt8Image
from drc_deploy.pairs import find_pairs
from drc_deploy.runtime.upscaler import Upscaler

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
TILES, OVERLAPS = (64, 96, 128, 192, 256), (0, 4, 8, 16, 32)


@click.command()
@click.argument("engine", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--images", type=FOLDER, default=SAMPLES, help="Photographs that are enlarged.")
@click.option("--pairs", type=FOLDER, help="A benchmark set, for PSNR against HR.")
@click.option("--count", default=8, show_default=True, help="Images at most.")
def main(engine: Path, images: Path, pairs: Path | None, count: int) -> None:
    """Print a table: tile, overlap, area computed, and how far the result is from that of the whole image."""
    photographs = [read_rgb(path) for path in list_images(images)[:count]]
    with Upscaler.open(engine, tile=4096) as upscaler:
        whole = [upscaler(image) for image in photographs]
        scale = upscaler.info.scale
    lr = [read_rgb(pair.lr_path) for pair in find_pairs(pairs, f"LRx{scale}", scale)] if pairs else []
    hr = [read_rgb(pair.hr_path) for pair in find_pairs(pairs, f"LRx{scale}", scale)] if pairs else []
    click.echo("tile overlap   area  psnr_db  worst_image_db  off_by_2_or_more  largest  hr_psnr_db")
    for tile in TILES:
        for overlap in OVERLAPS:
            try:
                upscaler = Upscaler.open(engine, tile=tile, overlap=overlap)
            except UsageError:  # no middle is left
                continue
            with upscaler:
                tiled = [upscaler(image) for image in photographs]
                against_hr = _mean_psnr(hr, [upscaler(image) for image in lr]) if lr else float("nan")
                area = sum(_area(upscaler, image) for image in photographs) / sum(_pixels(i) for i in photographs)
            difference = [np.abs(a.astype(int) - b) for a, b in zip(whole, tiled, strict=True)]
            worst = min(_psnr(d) for d in difference)
            share = np.mean(np.concatenate([(d > 1).ravel() for d in difference]))
            click.echo(
                f"{tile:4d} {overlap:7d} {area:6.2f} {_mean_psnr(whole, tiled):8.2f} {worst:15.2f} "
                f"{share:17.3%} {max(d.max() for d in difference):8d} {against_hr:11.3f}"
            )


def _area(upscaler: Upscaler, image: UInt8Image) -> int:
    plan = upscaler.plan(image.shape[0], image.shape[1])
    height, width = plan.tile
    return plan.tile_count * height * width


def _pixels(image: UInt8Image) -> int:
    return int(image.shape[0] * image.shape[1])


def _psnr(difference: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(float(np.mean(difference.astype(float) ** 2)), 1e-9)))


def _mean_psnr(references: Sequence[UInt8Image], results: Sequence[UInt8Image]) -> float:
    return float(np.mean([_psnr(a[: len(b)].astype(int) - b) for a, b in zip(references, results, strict=True)]))


if __name__ == "__main__":
    main()
