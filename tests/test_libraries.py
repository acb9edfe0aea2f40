"""Which library decodes what of others' files: the claims of docs/reliability.md."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import features

import drc_deploy
from drc_deploy.errors import ImageError
from drc_deploy.images.reading import read_image

PACKAGE = Path(drc_deploy.__file__).parent
PAGE = PACKAGE.parent / "docs/reliability.md"
DECODERS = {
    "cv2.imdecode": {"images/deep_samples.py", "images/deep_boxes.py", "train/degradation/degrade.py"},
    "cv2.imread": {"train/data/png_loader.py"},
    "Image.open": {"images/opening.py", "export/compare/samples.py"},
    "torch.load": {"state_dict_file.py"},
    "np.load": {"images/blur.py"},
    "simplejpeg.decode_jpeg": {"images/checks/jpeg_data.py"},
}
"""What decodes -> the files that call it. ``degrade`` and ``png_loader`` read what they have written themselves, and
``samples`` the photographs of the package."""
NEVER = {"cv2.VideoCapture", "cv2.imreadmulti", "cv2.imdecodemulti", "pickle.load", "pickle.loads", "torch.jit.load"}
REQUIRED = {"Image.open": "formats", "torch.load": "weights_only=True", "np.load": "allow_pickle=False"}
OF_OUR_OWN = {"export/compare/samples.py"}


def calls() -> Iterator[tuple[str, str, str]]:
    """Yield each call in the program: its file, what is called, and the source of the call."""
    for path in sorted(PACKAGE.glob("**/*.py")) + [
        file for room in ("bench", "export", "runtime", "train") for file in sorted((PACKAGE / room).glob("**/*.py"))
    ]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield path.relative_to(PACKAGE).as_posix(), ast.unparse(node.func), ast.unparse(node)


def test_each_decoder_is_called_where_the_page_says_and_nowhere_else() -> None:
    found: dict[str, set[str]] = {name: set() for name in DECODERS}
    for file, name, source in calls():
        assert name not in NEVER, file
        if name in DECODERS:
            found[name].add(file)
            assert file in OF_OUR_OWN or REQUIRED.get(name, "") in source, source
    assert found == DECODERS


def encoded(suffix: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (40, 40, 3), dtype=np.uint16)
    return bytes(cv2.imencode(suffix, pixels)[1])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jp2"])
def test_opencv_gets_no_file_that_pillow_cannot_decode(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = encoded(suffix), []
    real: Any = cv2.imdecode

    def decode(content: Any, how: int) -> Any:
        seen.append(len(content))
        return real(content, how)

    monkeypatch.setattr(cv2, "imdecode", decode)
    (tmp_path / f"a{suffix}").write_bytes(whole)
    read_image(tmp_path / f"a{suffix}")
    assert seen == [len(whole)]
    for length in range(1, len(whole) - 16, max(len(whole) // 60, 1)):
        (tmp_path / f"a{suffix}").write_bytes(whole[:length])
        with pytest.raises(ImageError):
            read_image(tmp_path / f"a{suffix}")
    assert seen == [len(whole)]


def rows() -> dict[str, str]:
    """Return the libraries that the page lists, by package and its version."""
    lines = [line.split("|")[1:3] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return {package.strip(): libraries for package, libraries in lines}


def test_the_page_has_the_versions_of_the_constraints() -> None:
    constraints = (PACKAGE.parent / "constraints.txt").read_text().splitlines()
    newer = {line.split(";")[0].strip() for line in constraints if 'python_version < "3.11"' not in line}
    for row in rows():
        name, number = re.fullmatch(r"`([\w-]+)` ([\d.]+)", row).groups()  # type: ignore[union-attr]
        assert f"{name}=={number}" in newer, row


@pytest.mark.skipif(sys.platform != "linux", reason="wheels of other systems have other libraries")
def test_the_page_has_the_versions_that_the_packages_report() -> None:
    listed = rows()
    pillow = listed.get(f"`pillow` {version('pillow')}")
    opencv = listed.get(f"`opencv-python-headless` {version('opencv-python-headless')}")
    if pillow is None or opencv is None:
        pytest.skip("other versions than those of the constraints are installed")
    for feature in ("libjpeg_turbo", "zlib_ng", "libtiff", "webp", "avif", "jpg_2000", "littlecms2"):
        assert f" {features.version(feature)}" in pillow, feature
    build = cv2.getBuildInformation()
    for line, name in (("PNG:", "libpng"), ("TIFF:", "libtiff"), ("JPEG 2000:", "OpenJPEG"), ("AVIF:", "libavif")):
        (number,) = re.findall(rf"^ *{line}.*?\((?:ver )?(?:avif \(ver )?(?:ver )?(?:42 - )?([\d.]+)\)", build, re.M)
        assert f"{name} {number}" in opencv, line
