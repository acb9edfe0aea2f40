"""How torch runs a checkpoint on a CPU, in turns: ``python -m tests.benchmarks.torch_layouts CHECKPOINT``.

Tiles of contiguous planes, one after the other, with all threads; the same channels last; and the backend, which has a
worker per thread.
"""

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import sample_images
from drc_deploy.runtime.backends.pytorch.backend import TorchBackend
from tests.benchmarks.turns import median_ms


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--side", default=256, show_default=True, help="Of the tiles, in input pixels.")
@click.option("--threads", default=2, show_default=True)
@click.option("--turns", default=5, show_default=True)
def main(checkpoint: Path, side: int, threads: int, turns: int) -> None:
    """Print the time for a tile per thread in each way, and its ratio to the first."""
    import torch  # after the backend, which sets the allocator

    backend, other = TorchBackend(checkpoint, threads=threads), TorchBackend(checkpoint, threads=threads)
    contiguous = other.network.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    image = read_rgb(sample_images()[0])[:side, :side].astype(np.float32)
    tiles = [image[None] for _ in range(threads)]

    def planes() -> None:
        with torch.inference_mode():
            for tile in tiles:
                contiguous.upscale(torch.from_numpy(tile).permute(0, 3, 1, 2).contiguous())

    ways: dict[str, Callable[[], object]] = {
        "contiguous": planes,
        "channels last": lambda: [backend.run(tile) for tile in tiles],
        "workers": lambda: list(backend.stream(tiles)),
    }
    times = median_ms(ways, turns=turns)
    click.echo(f"{checkpoint.stem}, {threads} tiles of {image.shape[1]}x{image.shape[0]}, {threads} threads")
    for name, ms in times.items():
        click.echo(f"{name:<14}{ms:9.1f} ms  {ms / times['contiguous']:.2f}")


if __name__ == "__main__":
    main()
