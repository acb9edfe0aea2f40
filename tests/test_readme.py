"""What the README shows does what it says."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime.networks import nearest, write_nearest

README = Path(__file__).parent.parent / "README.md"


def test_the_example_in_python_upscales_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    image = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "in.png")
    (tmp_path / "drc_runs").mkdir()
    write_nearest(tmp_path / "drc_runs" / "drn_xs_r30.onnx")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert np.array_equal(np.asarray(Image.open("out.png")), nearest(image, 4))
