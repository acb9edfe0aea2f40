"""The picture of the served page in the docs: ``python -m tests.benchmarks.many.page_picture OUT``.

A photograph, reduced by four, is dropped on the page of a running service.
"""

import base64
import io
from pathlib import Path

import click
from PIL import Image
from playwright.sync_api import Page

from drc_deploy.images.reading import read_rgb
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.locate import SAMPLES
from tests.benchmarks.many.service_load import serving
from tests.browser import chromium

SCALE = 4


@click.command()
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--photograph", default="coffee.png", show_default=True)
@click.option("--engine", default="drn_e", show_default=True)
def main(output: Path, photograph: str, engine: str) -> None:
    """Write OUTPUT, an image of the page: half of the original and half of the result."""
    original = read_rgb(SAMPLES / photograph)
    small = resize_bicubic(original, original.shape[0] // SCALE, original.shape[1] // SCALE)
    with serving(engine) as address, chromium() as browser:
        tab = browser.new_page(viewport={"width": 1000, "height": 720})
        tab.goto(address)
        _drop(tab, photograph, Image.fromarray(small))
        tab.locator("#go:enabled").click()
        tab.locator("#result").wait_for()
        tab.locator("#work").wait_for(state="hidden")
        tab.wait_for_timeout(500)  # the images are decoded
        shot = Image.open(io.BytesIO(tab.screenshot()))
    shot.convert("RGB").save(output, quality=90)


def _drop(tab: Page, name: str, image: Image.Image) -> None:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    script = """([name, text]) => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(atob(text), one => one.charCodeAt())], name));
      return data;
    }"""
    dropped = tab.evaluate_handle(script, [name, base64.b64encode(stream.getvalue()).decode()])
    tab.dispatch_event("h1", "drop", {"dataTransfer": dropped})


if __name__ == "__main__":
    main()
