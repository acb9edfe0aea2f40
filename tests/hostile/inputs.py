"""What commands are run on: photographs, a video, networks, widths."""

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.locate import SHIPPED, sample_images
from tests.runtime.networks import write_box, write_nearest

WIDTHS = (8, 12, 24, 24, 24, *[32] * 7)
"""Of a pruned ``drn_xs``."""


def write_inputs(place: Path, *, side: int = 100, frames: int = 150) -> None:
    """Write photographs, a video, an animation, networks in several kinds of files, and widths."""
    for name, count, left in (("photos", 6, 0), ("others", 2, 110)):
        (place / name).mkdir(parents=True)
        for index in range(count):
            with Image.open(sample_images()[index % len(sample_images())]) as opened:
                cropped = opened.convert("RGB").crop((left + index, index, left + index + side, index + side))
                cropped.save(place / name / f"{index}.png")
    write_nearest(place / "n.onnx", scale=4)
    write_box(place / "m.onnx", scale=4)
    write_video(place / "in.mp4", frames)
    pictures = [Image.fromarray(picture(number)) for number in range(frames // 3)]
    pictures[0].save(place / "in.gif", save_all=True, append_images=pictures[1:], duration=40)
    shutil.copy(SHIPPED / "drn_xs.safetensors", place / "w.safetensors")
    (place / "plain.py").write_text(_PLAIN)
    torch.save({"conv.weight": torch.full((12, 3, 3, 3), 1e-3), "conv.bias": torch.zeros(12)}, place / "plain.pt")
    (place / "w.txt").write_text("\n".join(map(str, WIDTHS)))


_PLAIN = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.shuffle, self.larger = nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), nn.Upsample(None, 2)

    def forward(self, image):
        return self.larger(image) + self.shuffle(self.conv(image))
"""


def picture(number: int) -> NDArray[np.uint8]:
    """Return a picture (96, 128, 3) that no other number below 256 gives."""
    pixels = np.full((96, 128, 3), number % 256, np.uint8)
    pixels[:, number % 100 : number % 100 + 16] = 255 - number % 256
    return pixels


def write_video(path: Path, frames: int) -> None:
    """Write 128x96 pixels of H.264, each picture another one."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), "rgb24")))
        container.mux(stream.encode())
