"""The predicted peak of ``upscale`` against the measured one: ``python -m tests.benchmarks.memory_table ENGINE...``.

Every case is the whole command in a process of its own. A table row tells what was predicted when the last image was
planned, and the VmHWM of the process at its end. The command ends with an error where a limit was not kept. With
``--exact`` cases need the NAME.exact.onnx beside the engine.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from drc_deploy.engine_info import EXACT_SUFFIX
from drc_deploy.images.finding import list_images
from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import SAMPLES

MIB = 1 << 20

CHILD = """
import json, sys
from drc_deploy.cli.main import main
from drc_deploy.runtime.memory.host import resident_bytes
from drc_deploy.runtime.upscaler import Upscaler
fits, fit = [], Upscaler.fit
def recorded(*args, **named):
    fits.append(fit(*args, **named))
    return fits[-1]
Upscaler.fit = recorded
try:
    main()
except SystemExit as error:
    code = error.code
tile = fits[-1].plan.tile if fits else (0, 0)
print(json.dumps([code, max((f.peak for f in fits), default=0), resident_bytes(peak=True), *tile,
                  fits[-1].workers if fits else 0]))
"""

SIZES = {"small": (128, 160), "medium": (400, 600), "large": (800, 1200)}


@dataclass(frozen=True)
class Case:
    """One run of the command."""

    image: str
    """``SIZE`` or ``SIZE-KIND``; kinds are alpha, deep, grey."""
    threads: int = 1
    options: tuple[str, ...] = ()
    limit_mib: int | None = None


CASES = (
    *(Case(size, threads) for size in SIZES for threads in (1, 2)),
    *(Case(f"medium-{kind}", threads) for kind in ("alpha", "deep", "grey") for threads in (1, 2)),
    *(Case("large", threads, limit_mib=limit) for limit in (150, 200, 300, 400) for threads in (1, 2)),
    *(Case(f"large-{kind}", limit_mib=limit) for kind in ("alpha", "deep") for limit in (200, 300)),
    *(Case("medium", threads, ("--exact",), 300) for threads in (1, 2)),
    *(Case("folder", threads, limit_mib=limit) for limit in (None, 250) for threads in (1, 2)),
)


@click.command()
@click.argument("engines", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--data", type=click.Path(path_type=Path), default=SAMPLES, help="Photographs to make images of.")
@click.option("--only", default="", help="Cases whose image begins so.")
@click.option("--repeat", default=1, show_default=True)
def main(engines: tuple[Path, ...], data: Path, only: str, repeat: int) -> None:
    """Print one row for each case."""
    broken = 0
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), data)
        click.echo(
            f"{'engine':<16}{'image':<15}{'threads':>7}  {'limit':>6}{'predicted':>10}{'measured':>10}  ratio  tile"
        )
        for engine, case, _ in itertools.product(engines, CASES, range(repeat)):
            if case.image.startswith(only) and runs(engine, case):
                kept, line = row(engine, case, Path(folder))
                broken += not kept
                click.echo(line)
    if broken:
        raise click.ClickException(f"{broken} runs took more than they were allowed.")


def runs(engine: Path, case: Case) -> bool:
    """Return whether the files for a case are there."""
    return "--exact" not in case.options or engine.with_suffix(EXACT_SUFFIX).is_file()


def row(engine: Path, case: Case, folder: Path) -> tuple[bool, str]:
    """Run a case; tell whether its limit was kept, and give its line of the table."""
    code, predicted, measured, height, width, workers = run(engine, case, folder)
    image = case.image + (" exact" if "--exact" in case.options else "")
    line = f"{engine.stem:<16}{image:<15}{case.threads:>7}  {case.limit_mib or '':>6}"
    kept = case.limit_mib is None or measured <= case.limit_mib * MIB
    if code:
        return kept, f"{line}   refused{measured / MIB:>10.0f}"
    ratio = f"{measured / predicted:>6.2f}"
    line += f"{predicted / MIB:>10.0f}{measured / MIB:>10.0f} {ratio}  {width}x{height}, {workers} at a time"
    return kept, line if kept else f"{line}  OVER THE LIMIT"


def run(engine: Path, case: Case, folder: Path) -> Sequence[int]:
    """Run a case: exit code, predicted and measured bytes, tile, tiles at a time."""
    source = folder / case.image
    target = [] if source.is_dir() else ["-o", str(folder / "out.png")]
    limit = ["--max-memory", f"{case.limit_mib}MiB"] if case.limit_mib else []
    words = ["upscale", str(source if source.is_dir() else source.with_suffix(".png")), "--engine", str(engine)]
    words += ["--overwrite", "--threads", str(case.threads), *target, *limit, *case.options]
    done = subprocess.run([sys.executable, "-c", CHILD, *words], capture_output=True, text=True, check=True)
    figures: list[int] = json.loads(done.stdout.splitlines()[-1])
    return figures


def make_images(folder: Path, data: Path) -> None:
    """Write images of all sizes and kinds, of pieces of photographs; and a folder of some of each."""
    pieces = itertools.cycle([read_rgb(path) for path in list_images(data)[:12]])
    for name, (height, width) in SIZES.items():
        pixels = mosaic(pieces, height, width)
        for kind, image in kinds(pixels):
            cv2.imwrite(str(folder / f"{name}{kind}.png"), image)
    (folder / "folder").mkdir()
    for name in ("small", "large", "medium-deep", "medium", "medium-alpha"):
        (folder / "folder" / f"{name}.png").write_bytes((folder / f"{name}.png").read_bytes())


def kinds(pixels: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[np.uint8 | np.uint16]]]:
    """Return an RGB image in the order of OpenCV, plain and in all kinds, each with the end of its name."""
    height, width = pixels.shape[:2]
    yield "", pixels
    yield "-grey", pixels[:, :, 0]
    yield "-deep", pixels.astype(np.uint16) * 257
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    alpha = np.clip(400 * np.hypot(x, y) - 60, 0, 255).astype(np.uint8)
    yield "-alpha", np.dstack([pixels, alpha])


def mosaic(pieces: Iterator[NDArray[np.uint8]], height: int, width: int) -> NDArray[np.uint8]:
    """Give (height, width, 3) of photographs side by side."""
    result = np.empty((height, width, 3), np.uint8)
    side = 128
    for top in range(0, height, side):
        for left in range(0, width, side):
            place = result[top : top + side, left : left + side]
            place[:] = next(pieces)[: place.shape[0], : place.shape[1]]
    return result


if __name__ == "__main__":
    main()
