from pathlib import Path

import numpy as np
import pytest

from drc_deploy.bench.measure.crops import choose_crops, cut, error_map
from drc_deploy.bench.measure.quality import ImageSet
from drc_deploy.bench.run.inputs import find_engine_files
from drc_deploy.images.crops import fit_to_size

RANDOM = np.random.default_rng(5)


def test_the_work_folder_gives_every_engine_but_float_variants(tmp_path: Path) -> None:
    for name in ("a.onnx", "a.float.onnx", "a.plan", "a.plan.json", "a.safetensors", "a.widths.json", "notes.txt"):
        (tmp_path / name).touch()
    assert [file.name for file in find_engine_files((), tmp_path)] == ["a.onnx", "a.plan", "a.safetensors"]


def test_files_of_the_same_name_are_distinguished_and_repeats_dropped(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "a.onnx" for folder in ("x", "y")]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    references = [str(paths[0]), str(paths[1]), str(paths[0])]
    assert [file.name for file in find_engine_files(references, tmp_path)] == references[:2]


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 9), (10, 12), (25, 3), (1, 40)])
def test_the_latency_input_has_the_size_asked_for_and_holds_real_pixels(height: int, width: int) -> None:
    image = RANDOM.integers(0, 256, (10, 12, 3), np.uint8)
    fitted = fit_to_size(image, height, width)
    assert fitted.shape == (height, width, 3)
    assert {tuple(pixel) for pixel in fitted.reshape(-1, 3)} <= {tuple(pixel) for pixel in image.reshape(-1, 3)}


def test_shipped_photographs_serve_any_scale() -> None:
    images = ImageSet(None, None)
    pair = images.sources(8)[0].load(8)
    assert pair.hr.shape[0] == pair.lr.shape[0] * 8
    assert pair.name in images.description


def test_an_error_map_finds_the_damaged_part() -> None:
    reference = RANDOM.integers(0, 256, (200, 240, 3), np.uint8)
    damaged = reference.copy()
    damaged[60:90, 110:140] = 0
    errors = error_map(reference, damaged, 4)
    top, left, height, width = max(errors, key=lambda box: errors[box])
    assert (top <= 60, top + height >= 90) == (True, True)
    assert (left <= 110, left + width >= 140) == (True, True)
    assert all(side % 4 == 0 for box in errors for side in box)


def test_candidates_of_a_small_image_stay_inside_it() -> None:
    reference = RANDOM.integers(0, 256, (30, 41, 3), np.uint8)
    (box,) = error_map(reference, reference, 4)
    assert cut(reference, box).shape == (box[2], box[3], 3)


def test_crops_are_the_largest_gain_the_smallest_and_the_worst() -> None:
    boxes = [(0, 96 * index, 96, 96) for index in range(4)]
    bicubic = {"a": dict(zip(boxes, [100.0, 10.0, 50.0, 30.0], strict=True))}
    engine = {"a": dict(zip(boxes, [20.0, 15.0, 45.0, 25.0], strict=True))}
    assert [choice.box for choice in choose_crops(bicubic, [engine])] == [boxes[0], boxes[1], boxes[2]]
