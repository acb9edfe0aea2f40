"""Reducing the network's image to half against making it, in turns: ``python -m tests.benchmarks.reduction ENGINE...``.

Both use as many threads as their libraries choose; set OMP_NUM_THREADS for fewer.
"""

from functools import partial

import click

from drc_deploy.images.reading import read_rgb
from drc_deploy.images.strip_resizer import resize
from drc_deploy.locate import SAMPLES, find_engine
from drc_deploy.runtime.upscaler import Upscaler
from tests.benchmarks.turns import ratios_text


@click.command()
@click.argument("engines", nargs=-1, required=True)
@click.option("--turns", default=5, show_default=True)
def main(engines: tuple[str, ...], turns: int) -> None:
    """Print the time of each network for one photograph, and of reductions in parts of it."""
    image = read_rgb(SAMPLES / "coffee.png")
    for name in engines:
        with Upscaler.open(find_engine(name, SAMPLES)) as upscaler:
            large = upscaler(image)
            half = partial(resize, large, large.shape[0] // 2, large.shape[1] // 2)
            work = {name: partial(upscaler, image), "samples": half, "light": partial(half, linear_light=True)}
            click.echo(ratios_text(work, turns=turns))


if __name__ == "__main__":
    main()
