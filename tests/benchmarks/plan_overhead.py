"""What the host adds to the GPU's own time: ``python -m tests.benchmarks.plan_overhead NAME.plan``.

The same batches through the same plan, with CUDA graphs and without, in turns in one process. What the GPU takes for a
batch by its own clock is the least that a batch can take: uploads and downloads run beside the computation.
"""

import functools
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np

from drc_deploy.runtime.backends.trt.backend import TensorRTBackend
from tests.benchmarks.turns import median_ms

GRAPH_PACKAGES = ("cuda.bindings.driver", "cuda.cuda")


@click.command()
@click.argument("plan", type=click.Path(path_type=Path, exists=True))
@click.option("--batches", default=50, show_default=True, help="Batches of one stream.")
@click.option("--turns", default=9, show_default=True)
def main(plan: Path, batches: int, turns: int) -> None:
    """Print the time of a batch and its ratio to what the GPU computes."""
    with TensorRTBackend(plan) as graphs, without_cuda_python(), TensorRTBackend(plan) as ordinary:
        info = graphs.info
        assert info.tile is not None
        pixels = np.random.default_rng(0).integers(0, 256, (info.max_batch, *info.tile, 3)).astype(info.io_dtype)
        ways = {"graphs": graphs, "ordinary": ordinary}
        device_ms: dict[str, list[float]] = {name: [] for name in ways}

        def run(name: str) -> None:
            for _ in ways[name].stream(pixels for _ in range(batches)):
                times = ways[name].device_times
                assert times is not None
                device_ms[name].append(times.compute_ms)

        wall = median_ms({name: functools.partial(run, name) for name in ways}, turns=turns)
        click.echo(f"{graphs.device}, {batches} batches of {info.max_batch} tiles of {info.tile}")
        for name, total_ms in wall.items():
            batch_ms, computed_ms = total_ms / batches, statistics.median(device_ms[name])
            click.echo(
                f"{name:<10}{batch_ms:8.3f} ms a batch, {batch_ms / computed_ms:.3f} of the GPU's {computed_ms:.3f}"
            )
    click.echo(f"graphs / ordinary {wall['graphs'] / wall['ordinary']:.3f}")


@contextmanager
def without_cuda_python() -> Iterator[None]:
    """Hide the package that records CUDA graphs from what is loaded in the block."""
    hidden = {name: sys.modules.get(name) for name in GRAPH_PACKAGES}
    sys.modules.update(dict.fromkeys(GRAPH_PACKAGES))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, module in hidden.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


if __name__ == "__main__":
    main()
