"""What reading and writing an image takes is known before: measured in a process that does nothing else."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
import pillow_jxl
import pytest
from PIL import Image

from drc_deploy.errors import UsageError
from drc_deploy.images.formats import writing_bytes
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.reading import decode_image, decoding_bytes

pillow_heif.register_heif_opener()
assert pillow_jxl  # which registers itself
SIDE = 1500
SMALL = 4 << 20
"""Whatever the size of the image: decoders and compressors, a strip."""

READ = """
import sys
from pathlib import Path
from typing import Any
from PIL import Image
from drc_deploy.images.reading import read_image
from drc_deploy.runtime.memory.host import resident_bytes
Image.init()
before = resident_bytes()
read_image(Path(sys.argv[1]))
print(resident_bytes(peak=True) - before)
"""
READ_PIPE = """
import sys
from pathlib import Path
from typing import Any
from PIL import Image
from drc_deploy.images.reading import read_image
from drc_deploy.runtime.memory.host import resident_bytes
Image.init()
told, before = [], resident_bytes()
read_image(Path(sys.argv[1]), check_room=told.append)
print(resident_bytes(peak=True) - before, *told)
"""
WRITE = """
import sys
from pathlib import Path
from typing import Any
import numpy as np
from drc_deploy.images.writing import write_image
from drc_deploy.images.reading import read_image
from drc_deploy.images.png_stream import Layout
from drc_deploy.runtime.memory.host import resident_bytes
side, channels = int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
strip = rng.integers(0, 256, (100, side, channels), np.uint8)
write_image(Path(sys.argv[1]).with_stem("first"), [strip], Layout.of(strip))
before = resident_bytes()
write_image(Path(sys.argv[1]), (strip for _ in range(side // 100)), Layout(side // 100 * 100, side, channels, 8))
print(resident_bytes(peak=True) - before)
"""


def growth(code: str, *arguments: object) -> int:
    (grown,) = printed(code, *arguments)
    return grown


def printed(code: str, *arguments: object) -> list[int]:
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return [int(word) for word in subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()]


QUICK: dict[str, dict[str, Any]] = {".avif": {"speed": 10}, ".heic": {"enc_params": {"preset": "ultrafast"}}}
KINDS = ["RGB.png", "RGB.jpg", "CMYK.jpg", "P.png", "RGBA.png", "deep.png", "P.gif", "RGB.avif", "RGBA.avif"]


@pytest.mark.parametrize("kind", [*KINDS, "L.jp2", "RGB.jp2", "RGBA.jp2", "deep.jp2", "RGBA.heic", "RGBA.jxl"])
def test_reading_takes_no_more_than_is_foreseen_and_not_much_less(kind: str, tmp_path: Path) -> None:
    mode, path = kind.partition(".")[0], tmp_path / kind
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), np.uint8)
    if mode == "deep":
        cv2.imwrite(str(path), pixels.astype(np.uint16) * 257)
    else:
        Image.fromarray(pixels if mode == "RGBA" else pixels[:, :, :3]).convert(mode).save(
            path, **QUICK.get(path.suffix, {})
        )
    assert 0.5 * decoding_bytes(path) < growth(READ, path) <= decoding_bytes(path) + SMALL


@pytest.mark.parametrize("deep", [False, True])
def test_what_a_pipe_takes_is_reported_once_its_content_is_there(deep: bool, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    content = cv2.imencode(".png", pixels.astype(np.uint16) * 257 if deep else pixels)[1].tobytes()
    (tmp_path / "file.png").write_bytes(content)
    os.mkfifo(tmp_path / "pipe.png")
    feeder = threading.Thread(target=(tmp_path / "pipe.png").write_bytes, args=(content,))
    feeder.start()
    grown, *lengths, reported = printed(READ_PIPE, tmp_path / "pipe.png")
    feeder.join()
    assert lengths == sorted(lengths)
    assert lengths[-1] == len(content)
    assert reported == decoding_bytes(tmp_path / "file.png") + len(content)
    assert 0.5 * reported < grown <= reported + SMALL


def test_what_has_no_room_is_not_decoded() -> None:
    def refuse(needed: int) -> None:
        raise UsageError(f"{needed} bytes")

    content = cv2.imencode(".bmp", np.zeros((10, 10, 3), np.uint8))[1].tobytes()[:-1]  # and else it would be damaged
    with pytest.raises(UsageError, match=f"{1400 + len(content)} bytes"):
        decode_image(content, "x", check_room=refuse)
    with pytest.raises(UsageError, match="4 bytes"):
        decode_image(b"none", "x", check_room=refuse)


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [
        ("png", 3),
        ("jpg", 3),
        ("tif", 3),
        ("tif", 4),
        ("bmp", 3),
        ("webp", 3),
        ("webp", 4),
        ("avif", 1),
        ("avif", 3),
        ("avif", 4),
        ("gif", 3),
        ("gif", 4),
    ],
)
def test_writing_takes_no_more_than_is_foreseen(suffix: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / f"o.{suffix}"
    layout = Layout(SIDE, SIDE, channels, 8)
    assert growth(WRITE, path, SIDE, channels) <= writing_bytes(path, layout) + SMALL


def test_what_is_no_image_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"none")
    assert decoding_bytes(tmp_path / "x.png") == decoding_bytes(tmp_path / "missing.png") == 0
