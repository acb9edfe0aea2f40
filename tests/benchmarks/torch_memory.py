"""What torch takes on a CPU against what was counted: ``python -m tests.benchmarks.torch_memory CHECKPOINT``."""

from pathlib import Path

import click
import numpy as np

from drc_deploy.runtime.backends.pytorch.backend import TorchBackend
from drc_deploy.runtime.memory.host import resident_bytes
from drc_deploy.runtime.tiling.memory_plan import Images, peak_bytes
from drc_deploy.runtime.tiling.tiles import plan_tiles


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--threads", default=2, show_default=True, help="Tiles at a time.")
def main(checkpoint: Path, threads: int) -> None:
    """Print for tiles of several sizes by how much the process grew, and by how much it was said to grow."""
    backend = TorchBackend(checkpoint, threads=threads)
    loaded = resident_bytes() or 0
    click.echo(f"{checkpoint.stem}, {threads} tiles at a time: side, MiB more, MiB predicted")
    for side in (64, 96, 128, 160, 192, 224, 256):
        tile = np.full((1, side, side, 3), 127, np.float32)
        for _ in backend.stream([tile] * 2 * threads):
            pass
        plan = plan_tiles(side, side * threads, backend.info, tile=side, overlap=0)
        grown = (resident_bytes(peak=True) or 0) - loaded
        predicted = peak_bytes(backend.info, plan, threads, Images(side, side * threads), 0)
        click.echo(f"{side:4} {grown >> 20:6} {predicted >> 20:6}")


if __name__ == "__main__":
    main()
