"""ONNX Runtime's best provider here against its CPU provider: ``python -m tests.benchmarks.providers ENGINE.onnx``.

On a GPU this also tells what bound memory and overlapped copies buy over ``session.run``. ``--cpu-time`` counts
processor time, which other programs on the machine change least; it says nothing about a GPU.
"""

import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from drc_deploy.engine_info import INPUT_NAME, OUTPUT_NAME
from drc_deploy.runtime.backends.ort.backend import OnnxRuntimeBackend
from drc_deploy.runtime.backends.ort.providers import CPU, open_session
from tests.benchmarks.turns import median_ms


@click.command()
@click.argument("engine", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--tile", default=128, show_default=True, help="Side of a tile in input pixels.")
@click.option("--count", default=8, show_default=True, help="Tiles in a stream.")
@click.option("--turns", default=7, show_default=True)
@click.option("--cpu-time", is_flag=True, help="Count processor time.")
def main(engine: Path, tile: int, count: int, turns: int, cpu_time: bool) -> None:
    """Print milliseconds for each tile, and ratios to the CPU provider."""
    tiles = np.random.default_rng(0).integers(0, 256, (count, 1, tile, tile, 3), np.uint8)
    with OnnxRuntimeBackend(engine, cpu_only=True) as cpu, OnnxRuntimeBackend(engine) as best:
        if CPU in best.device:
            raise click.ClickException("this onnxruntime has nothing but its CPU provider here")
        session = open_session(engine, None)
        work: dict[str, Callable[[], object]] = {
            "CPU provider, stream": lambda: list(cpu.stream(tiles)),
            f"{best.device}, session.run": lambda: [session.run([OUTPUT_NAME], {INPUT_NAME: one}) for one in tiles],
            f"{best.device}, tile by tile": lambda: [best.run(one) for one in tiles],
            f"{best.device}, stream": lambda: list(best.stream(tiles)),
        }
        times = median_ms(work, turns=turns, clock=time.process_time if cpu_time else time.perf_counter)
    reference = next(iter(times.values()))
    for name, ms in times.items():
        click.echo(f"{name:<55}{ms / count:9.2f} ms{ms / reference:8.3f}")


if __name__ == "__main__":
    main()
