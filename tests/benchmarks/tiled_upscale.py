"""Tiled upscaling against a bare ONNX Runtime session: ``python -m tests.benchmarks.tiled_upscale ENGINE.onnx IMAGE``.

The bare session has all cores and runs the same tiles one after the other, without cutting, blending or checking.
"""

from pathlib import Path

import click
import numpy as np
import onnxruntime

from drc_deploy.engine_info import INPUT_NAME, OUTPUT_NAME
from drc_deploy.images.reading import read_rgb
from drc_deploy.runtime.upscaler import Upscaler
from tests.benchmarks.turns import median_ms

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("engine", type=FILE)
@click.argument("photograph", type=FILE)
@click.option("--tile", type=int, help="Largest side of a tile in input pixels.")
@click.option("--turns", default=5, show_default=True)
def main(engine: Path, photograph: Path, tile: int | None, turns: int) -> None:
    """Print the time for one photograph both ways, and their ratio."""
    image = read_rgb(photograph)
    session = onnxruntime.InferenceSession(str(engine), providers=["CPUExecutionProvider"])
    with Upscaler.open(engine, tile=tile) as upscaler:
        plan = upscaler.plan(*image.shape[:2])
        height, width = plan.tile
        tiles = [
            np.ascontiguousarray(image[row.start : row.start + height, column.start : column.start + width][None])
            for row in plan.rows
            for column in plan.columns
        ]

        def bare() -> None:
            for batch in tiles:
                session.run([OUTPUT_NAME], {INPUT_NAME: batch})

        times = median_ms({"drc-deploy": lambda: upscaler(image), "bare session": bare}, turns=turns)
    click.echo(f"{image.shape[1]}x{image.shape[0]} in {len(tiles)} tiles of {width}x{height}")
    for name, ms in times.items():
        click.echo(f"{name:<14}{ms:9.1f} ms")
    click.echo(f"{times['bare session'] / times['drc-deploy']:.2f}x the pixel rate of the bare session")


if __name__ == "__main__":
    main()
