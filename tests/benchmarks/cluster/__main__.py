"""What Ray costs on one machine: ``python -m tests.benchmarks.cluster``, while the machine does nothing else.

The same folder goes through ``drc-deploy upscale`` without Ray and with ``--ray``, in turns, each a command of its own.
The rate is that from the second finished image to the last, as two workers finish their first ones together. Starting
Ray is in the time to the first image.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from drc_deploy.locate import sample_images


@click.command()
@click.option("--engine", default="drn_e", show_default=True)
@click.option("--images", type=click.IntRange(3), default=32, show_default=True)
@click.option("--threads", default=1, show_default=True, help="Of each worker on Ray: half of the cores makes two.")
@click.option("--turns", default=5, show_default=True)
def main(engine: str, images: int, threads: int, turns: int) -> None:
    """Print both rates, their ratio (the goal is 0.95) and the seconds to the first image."""
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for number in range(images):
            shutil.copy(sample_images()[0], folder / "in" / f"{number:04}.png")
        for _ in range(turns):
            alone = measure(folder, engine)
            on_ray = measure(folder, engine, "--ray", "--threads", str(threads))
            ratios.append(on_ray[0] / alone[0])
            click.echo(f"alone {alone[0]:.2f} images/s, first after {alone[1]:.1f} s", nl=False)
            click.echo(f"; on Ray {on_ray[0]:.2f} images/s, first after {on_ray[1]:.1f} s; ratio {ratios[-1]:.3f}")
    click.echo(f"ratio: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


def measure(folder: Path, engine: str, *options: str) -> tuple[float, float]:
    """Return images per second, and seconds to the first one."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    command = [sys.executable, "-m", "drc_deploy", "upscale", "in", "-o", "out", "--engine", engine, *options]
    start = time.time()
    # With this one thread would be all that the command without Ray has.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    finished = sorted(path.stat().st_mtime for path in (folder / "out").glob("*.png"))
    return (len(finished) - 2) / (finished[-1] - finished[1]), finished[0] - start


if __name__ == "__main__":
    main()
