"""The picture of the README: a photograph reduced by four and enlarged: ``python -m tests.benchmarks.picture OUT``."""

from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from drc_deploy.images.reading import read_rgb
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.locate import SAMPLES, SHIPPED
from drc_deploy.metrics import UInt8Image, score
from drc_deploy.runtime.upscaler import Upscaler

NETWORK, SCALE = "drn_e", 4
GAP_PX, LABEL_PX = 6, 30


@click.command()
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--photograph", default="coffee.png", show_default=True)
@click.option("--crop", nargs=4, type=int, default=(150, 60, 270, 260), show_default=True, help="x y width height")
def main(output: Path, photograph: str, crop: tuple[int, int, int, int]) -> None:
    """Write OUTPUT: bicubic, the network and the original next to each other, and print the PSNR of both."""
    original = _whole_blocks(read_rgb(SAMPLES / photograph))
    height, width = original.shape[:2]
    small = resize_bicubic(original, height // SCALE, width // SCALE)
    bicubic = resize_bicubic(small, height, width)
    with Upscaler.open(SHIPPED / f"{NETWORK}.safetensors") as upscaler:
        ours = upscaler(small)
    versions = {"bicubic": bicubic, f"drc-deploy, {NETWORK}": ours, "original": original}
    for name, version in versions.items():
        scores = score(original, version, SCALE)
        click.echo(f"{name}: PSNR {scores.psnr_y} dB, SSIM {scores.ssim_y:.3f}")
    _side_by_side(versions, crop).save(output, optimize=True)


def _whole_blocks(image: UInt8Image) -> UInt8Image:
    """Return ``image`` cut to sides that the scale divides."""
    height, width = (side - side % SCALE for side in image.shape[:2])
    return np.ascontiguousarray(image[:height, :width])


def _side_by_side(versions: dict[str, UInt8Image], crop: tuple[int, int, int, int]) -> Image.Image:
    """Return the same crop of all versions, each under its name, on a white sheet."""
    x, y, width, height = crop
    sheet = Image.new("RGB", (len(versions) * (width + GAP_PX) - GAP_PX, height + LABEL_PX), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for position, (name, version) in enumerate(versions.items()):
        left = position * (width + GAP_PX)
        draw.text((left + width / 2, LABEL_PX / 2), name, "black", font, anchor="mm")
        sheet.paste(Image.fromarray(version[y : y + height, x : x + width]), (left, LABEL_PX))
    return sheet


if __name__ == "__main__":
    main()
