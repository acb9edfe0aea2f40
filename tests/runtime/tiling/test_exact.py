"""Tiles of a network with global means are as the whole image where those means are the image's."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from drc_deploy.engine_info import EXACT_SUFFIX, INPUT_NAME, METADATA_KEY, OUTPUT_NAME, EngineInfo
from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.export.graph.exact_graph import make_exact
from drc_deploy.runtime.tiling.exact import open_exact, with_image_means
from drc_deploy.runtime.tiling.tiles import plan_tiles
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import fake_info
from tests.runtime.networks import write_box

RNG = np.random.default_rng(3)


def info(**changes: object) -> EngineInfo:
    return replace(fake_info(io_dtype="float32", global_operations=True), **changes)  # type: ignore[arg-type]


def attention_model(info: EngineInfo, pools: int = 1) -> onnx.ModelProto:
    """Build sr = repeat(lr * mean(lr) / 100): one pool, so that the second pass is exact; or several in a row."""
    nodes = [helper.make_node("Transpose", [INPUT_NAME], ["x0"], perm=[0, 3, 1, 2])]
    for index in range(pools):
        nodes += [
            helper.make_node("GlobalAveragePool", [f"x{index}"], [f"mean{index}"]),
            helper.make_node("Mul", [f"mean{index}", "hundredth"], [f"factor{index}"]),
            helper.make_node("Mul", [f"x{index}", f"factor{index}"], [f"x{index + 1}"]),
        ]
    nodes += [
        helper.make_node("Resize", [f"x{pools}", "", "scales"], ["large"], mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric"),
        helper.make_node("Transpose", ["large"], [OUTPUT_NAME], perm=[0, 2, 3, 1]),
    ]  # fmt: skip
    sizes: list[str | int | None] = ["n", "h", "w", 3]
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [*sizes[:1], "sh", "sw", 3])],
        [
            numpy_helper.from_array(np.array(0.01, np.float32), "hundredth"),
            numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    return model


def write_both(folder: Path, pools: int = 1, **changes: object) -> Path:
    model = attention_model(info(**changes), pools)
    onnx.save(model, folder / "net.onnx")
    onnx.save(make_exact(model), folder / f"net{EXACT_SUFFIX}")
    return folder / "net.onnx"


@pytest.mark.parametrize("shape", [(40, 33, 3), (40, 33), (21, 50, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("overlap", [0, 3])
def test_exact_tiles_equal_the_whole(
    shape: tuple[int, ...], dtype: type[np.uint8] | type[np.uint16], overlap: int, tmp_path: Path
) -> None:
    path = write_both(tmp_path)
    image = RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    image[: shape[0] // 2] //= 4  # so that tiles differ in their means
    with Upscaler.open(path, tile=64) as whole, Upscaler.open(path, tile=16, overlap=overlap) as tiled:
        expected, without = whole(image), tiled(image)
    with Upscaler.open(path, tile=16, overlap=overlap, exact=True) as exact:
        done: list[int] = []
        result = np.concatenate(list(exact.strips(image, done.append)))
        assert sum(done) == exact.task(image).tile_count
    step = np.iinfo(dtype).max // 255
    assert np.abs(result.astype(int) - expected).max() <= step
    assert np.abs(without.astype(int) - expected).max() > 20 * step


def test_the_means_are_those_of_the_whole_image_whatever_the_tiles(tmp_path: Path) -> None:
    path = write_both(tmp_path)
    image = RNG.integers(0, 256, (45, 38, 3), np.uint8)
    with open_exact(path.with_suffix(EXACT_SUFFIX)) as backend:
        for tile, overlap in ((20, 2), (16, 0), (30, 7)):
            plan = plan_tiles(45, 38, backend.info, tile=tile, overlap=overlap)
            means = with_image_means(backend, image, plan)._means
            assert means == pytest.approx(image.mean(axis=(0, 1)), rel=1e-5)


def test_means_behind_other_means_are_returned_too(tmp_path: Path) -> None:
    path = write_both(tmp_path, pools=3)
    tile = RNG.uniform(0, 255, (1, 9, 7, 3)).astype(np.float32)
    with open_exact(path.with_suffix(EXACT_SUFFIX)) as backend, Upscaler.open(path) as plain:
        (seen,) = backend.seen_means([(tile, np.array([0, 0, 9, 7], np.int64))])
        assert len(seen) == 9
        own = backend.run(tile)
        assert np.allclose(own, backend.with_means(seen).run(tile), rtol=1e-5)
        assert np.allclose(own, plain.backend.run(tile), rtol=1e-5)


def test_without_the_exact_file_the_command_that_makes_it_is_named(tmp_path: Path) -> None:
    write_both(tmp_path)
    (tmp_path / f"net{EXACT_SUFFIX}").unlink()
    with pytest.raises(ArtefactError, match="does not exist") as caught:
        Upscaler.open(tmp_path / "net.onnx", exact=True)
    assert "--exact" in caught.value.hint


def test_a_local_network_is_exact_without_another_file(tmp_path: Path) -> None:
    write_box(tmp_path / "box.onnx")
    image = RNG.integers(0, 256, (41, 37, 3), np.uint8)
    with Upscaler.open(tmp_path / "box.onnx") as whole:
        expected = whole(image)
    with Upscaler.open(tmp_path / "box.onnx", tile=16, exact=True) as exact:
        assert np.array_equal(exact(image), expected)
    with pytest.raises(UsageError, match="exact as they are"):
        make_exact(onnx.load(tmp_path / "box.onnx"))


def test_an_ordinary_graph_under_the_name_of_an_exact_one_is_refused(tmp_path: Path) -> None:
    write_both(tmp_path)
    shutil.copy(tmp_path / "net.onnx", tmp_path / f"net{EXACT_SUFFIX}")
    with pytest.raises(ArtefactError, match="no graph for --exact"):
        Upscaler.open(tmp_path / "net.onnx", exact=True)


def test_an_exact_graph_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    """As it lies there when a network was exported again, the second time without --exact."""
    path = write_both(tmp_path)
    onnx.save(attention_model(info(checkpoint_sha256="1" * 64)), path)
    with pytest.raises(ArtefactError, match="another checkpoint"):
        Upscaler.open(path, exact=True)


@pytest.mark.parametrize("size", [(40, 33), (21, 50), (3, 5)])
def test_exact_tiles_on_a_grid_equal_the_whole_that_is_continued_to_it(size: tuple[int, int], tmp_path: Path) -> None:
    path = write_both(tmp_path, multiple_of=8)
    image = RNG.integers(0, 256, (*size, 3), np.uint8)
    image[: size[0] // 2] //= 4
    padded = np.pad(image, (*((0, -side % 8) for side in size), (0, 0)), mode="reflect")
    expected = (padded * padded.mean((0, 1)) / 100)[: size[0], : size[1]].repeat(2, axis=0).repeat(2, axis=1)
    with Upscaler.open(path, tile=64) as whole, Upscaler.open(path, tile=16, overlap=3, exact=True) as exact:
        for upscaler in (whole, exact):
            assert np.abs(upscaler(image).astype(int) - expected.clip(0, 255)).max() <= 1


def test_images_of_several_sizes_are_exact_one_after_the_other(tmp_path: Path) -> None:
    path = write_both(tmp_path)
    with Upscaler.open(path, tile=64) as whole, Upscaler.open(path, tile=16, overlap=2, exact=True) as exact:
        for size in ((40, 33), (21, 50), (16, 9), (33, 47)):
            image = RNG.integers(0, 256, (*size, 3), np.uint8)
            assert np.abs(exact(image).astype(int) - whole(image)).max() <= 1
    with open_exact(path.with_suffix(EXACT_SUFFIX)) as backend:
        for side in (9, 12):  # also where the part begins beyond what the smallest input has
            tile = RNG.uniform(0, 255, (1, side, side, 3)).astype(np.float32)
            (seen,) = backend.seen_means([(tile, np.array([4, 4, side, side], np.int64))])
            assert seen == pytest.approx(tile[0, 4:, 4:].mean(axis=(0, 1)), rel=1e-5)
