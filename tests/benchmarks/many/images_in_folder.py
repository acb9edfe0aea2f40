"""What an image costs in a folder of very many: ``python -m tests.benchmarks.many.images_in_folder``.

The images are hard links of a few tiny ones. For each size: new results in a folder that holds as many others, and a
command whose results are all there. Figures per image must not grow with the size.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
from PIL import Image

from tests.runtime.networks import write_nearest

_LINKS = 50_000
"""Of one file: ext4 holds 65,000."""
_COMMAND = """
import atexit, resource, sys
from drc_deploy.cli.main import main
atexit.register(lambda: print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10))
main(sys.argv[1:])
"""


@click.command()
@click.option("--size", "sizes", type=int, multiple=True, default=(20_000, 100_000), show_default=True)
@click.option("--new", type=int, default=300, show_default=True, help="Results that are made next to the others.")
def main(sizes: tuple[int, ...], new: int) -> None:
    """Print milliseconds per image, and bytes of the process per image of the folder."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_nearest(work / "n.onnx")
        make_images(work / "new", new, "new")
        start, least = upscale(work, "new", "first")
        click.echo(f"{new} images in an empty folder: {1000 * start / new:.2f} ms each, {least >> 20} MiB")
        for size in sizes:
            for folder in ("in", "out"):
                make_images(work / f"{folder}{size}", size, "image")
            seconds, _ = upscale(work, "new", f"out{size}")
            click.echo(f"{new} more in a folder of {size:,}: {1000 * seconds / new:.2f} ms each")
            seconds, held = upscale(work, f"in{size}", f"out{size}", "--skip-existing", "--json")
            each = (held - least) // size
            click.echo(f"{size:,} that are there: {1000 * seconds / size:.3f} ms and {each} bytes each")


def make_images(folder: Path, count: int, stem: str) -> None:
    """Make a folder of images."""
    folder.mkdir()
    make: Callable[[Path], object] = Image.new("RGB", (8, 8)).save
    first = folder
    for number in range(count):
        path = folder / f"{stem}_{number:07}.png"
        if number % _LINKS == 0:
            make(path)
            first = path
        else:
            os.link(first, path)


def upscale(work: Path, *arguments: str) -> tuple[float, int]:
    """Return how many seconds a command takes, and how many bytes it holds at most."""
    source, output, *options = arguments
    command = [sys.executable, "-c", _COMMAND, "upscale", source, "-o", output, "--engine", "n.onnx", *options]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=work, text=True, capture_output=True, check=True)
    peak = re.search(r"PEAK (\d+)", done.stdout)
    assert peak
    return time.perf_counter() - start, int(peak[1])


if __name__ == "__main__":
    main()
