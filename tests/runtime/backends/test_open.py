import builtins
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drc_deploy.engine_info import INPUT_NAME, METADATA_KEY, OUTPUT_NAME
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.runtime.memory.host import resident_bytes
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.networks import nearest, write_box, write_nearest


def test_an_onnx_runs_in_its_own_type_and_names_what_computes(tmp_path: Path) -> None:
    info = write_nearest(tmp_path / "n.onnx")
    batch = np.random.default_rng(0).integers(0, 256, (1, 5, 7, 3), np.uint8)
    with open_backend(tmp_path / "n.onnx", threads=1) as backend:
        assert backend.info == info
        assert backend.device == "ONNX Runtime CPUExecutionProvider"
        assert np.array_equal(backend.run(batch)[0], nearest(batch[0], 4))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_a_stream_returns_every_batch_once_and_in_order(threads: int, count: int, tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    batches = np.random.default_rng(0).integers(0, 256, (count, 1, 5, 7, 3), np.uint8)
    with open_backend(tmp_path / "n.onnx", threads=threads) as backend:
        results = list(backend.stream(iter(batches)))
    assert len(results) == count
    for batch, result in zip(batches, results, strict=True):
        assert np.array_equal(result[0], nearest(batch[0], 4))


def test_a_fixed_tile_is_run_with_any_number_of_tiles(tmp_path: Path) -> None:
    """Between two shapes memory is given back by a run of the smallest input, which this graph would refuse."""
    import onnx

    info = replace(write_nearest(tmp_path / "n.onnx"), tile=(5, 7), max_batch=4)
    model = onnx.load(tmp_path / "n.onnx")
    for axis, side in ((1, 5), (2, 7)):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    onnx.helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    onnx.save(model, tmp_path / "n.onnx")
    with open_backend(tmp_path / "n.onnx") as backend:
        for count in (1, 3, 2):
            assert backend.run(np.zeros((count, 5, 7, 3), np.uint8)).shape == (count, 20, 28, 3)


def test_memory_of_one_network_is_freed_for_another(tmp_path: Path) -> None:
    write_nearest(tmp_path / "8.onnx")
    write_nearest(tmp_path / "16.onnx", io_dtype="float32")
    loaded = resident_bytes()
    if loaded is None:
        pytest.skip("this system does not tell what a process holds")
    result_bytes = 1000 * 1000 * 16 * 3 * 4
    with open_backend(tmp_path / "8.onnx", threads=1) as one, open_backend(tmp_path / "16.onnx", threads=1) as other:
        one.run(np.zeros((1, 1000, 1000, 3), np.uint8))
        assert (resident_bytes() or 0) - loaded > result_bytes
        other.run(np.zeros((1, 10, 10, 3), np.float32))
        assert (resident_bytes() or 0) - loaded < result_bytes / 4
        one.run(np.zeros((1, 1000, 1000, 3), np.uint8))
        assert (resident_bytes() or 0) - loaded > result_bytes
        one.give_back()
        assert (resident_bytes() or 0) - loaded < result_bytes / 4


def test_a_smaller_input_takes_what_a_larger_one_left_and_a_larger_one_only_its_own(
    tmp_path: Path,
) -> None:
    write_nearest(tmp_path / "n.onnx")
    before = resident_bytes() or pytest.skip("this system does not tell what a process holds")

    def held(side: int) -> float:
        """Return what is held after an input of ``side``, in parts of the result of one of 1,000."""
        backend.run(np.zeros((1, side, side, 3), np.uint8))
        return ((resident_bytes() or 0) - before) / (1000 * 1000 * 16 * 3 * 4)

    with open_backend(tmp_path / "n.onnx", threads=1) as backend:
        first = held(1000)
        assert first > 1
        assert held(900) == pytest.approx(first, rel=0.05)
        assert held(10) == pytest.approx(first, rel=0.05)
        assert held(1010) == pytest.approx(first, rel=0.1)


def test_a_stream_that_is_given_up_takes_no_further_batches(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield np.zeros((1, 5, 7, 3), np.uint8)

    with open_backend(tmp_path / "n.onnx", threads=2) as backend:
        results = backend.stream(endless())
        assert isinstance(results, Generator)
        next(results)
        results.close()
        # As far ahead as the results that were asked for need: a stream must not read a whole image first.
        assert taken <= 6


def test_a_batch_that_cannot_be_computed_ends_the_stream(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    good, bad = np.zeros((1, 5, 7, 3), np.uint8), np.zeros((2, 5, 7, 3), np.uint8)
    with open_backend(tmp_path / "n.onnx", threads=2) as backend:
        with pytest.raises(ValueError, match="at most 1 tiles"):
            list(backend.stream([good, good, good, bad, good, good]))
        assert len(list(backend.stream([good] * 3))) == 3


def test_onnx_tiles_of_a_local_network_equal_the_whole(tmp_path: Path) -> None:
    write_box(tmp_path / "box.onnx")
    image = np.random.default_rng(0).integers(0, 256, (41, 37, 3), np.uint8)
    with Upscaler.open(tmp_path / "box.onnx") as whole, Upscaler.open(tmp_path / "box.onnx", tile=16) as tiled:
        assert np.array_equal(whole(image), tiled(image))


def test_an_onnx_of_another_program_is_refused(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx", metadata=False)
    with pytest.raises(ArtefactError, match="ONNX file of another program"):
        open_backend(tmp_path / "n.onnx")


def test_an_onnx_whose_metadata_are_no_text_is_refused(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    content = (tmp_path / "n.onnx").read_bytes().replace(b'"nearest"', b'"ne\xffrest"')
    (tmp_path / "n.onnx").write_bytes(content)
    with pytest.raises(ArtefactError, match="its metadata are no text"):
        open_backend(tmp_path / "n.onnx")


def test_an_onnx_whose_tensors_are_not_what_its_metadata_says_is_refused(tmp_path: Path) -> None:
    import onnx

    info = write_nearest(tmp_path / "n.onnx", io_dtype="float32")
    model = onnx.load(tmp_path / "n.onnx")
    text = info.to_json().replace("float32", "uint8")
    onnx.helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, tmp_path / "n.onnx")
    with pytest.raises(ArtefactError, match="not what its metadata says"):
        open_backend(tmp_path / "n.onnx")


@pytest.mark.parametrize(
    ("shape", "tile"),
    [
        (["n", 3, "h", "w"], None),
        (["h", "w", 3], None),
        (["n", "h", "w", 1], None),
        (["n", 8, 8, 3], None),
        (["n", 8, 8, 3], (16, 16)),
    ],
    ids=str,
)
def test_an_onnx_that_takes_other_shapes_than_its_metadata_says_is_refused(
    shape: list[str | int], tile: tuple[int, int] | None, tmp_path: Path
) -> None:
    import onnx

    info = replace(write_nearest(tmp_path / "n.onnx"), tile=tile)
    nodes = [onnx.helper.make_node("Identity", [INPUT_NAME], [OUTPUT_NAME])]
    tensors = [onnx.helper.make_tensor_value_info(name, 2, shape) for name in (INPUT_NAME, OUTPUT_NAME)]
    graph = onnx.helper.make_graph(nodes, "other", tensors[:1], tensors[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    onnx.save(model, tmp_path / "n.onnx")
    with pytest.raises(ArtefactError, match=r"an input of shape .* not what its metadata says"):
        open_backend(tmp_path / "n.onnx")


def test_an_onnx_that_does_not_enlarge_as_its_metadata_says_is_refused(tmp_path: Path) -> None:
    import onnx

    info = write_nearest(tmp_path / "n.onnx", scale=4)
    model = onnx.load(tmp_path / "n.onnx")
    onnx.helper.set_model_props(model, {METADATA_KEY: info.to_json().replace('"scale": 4', '"scale": 2')})
    onnx.save(model, tmp_path / "n.onnx")
    with Upscaler.open(tmp_path / "n.onnx") as upscaler, pytest.raises(ArtefactError, match="was expected"):
        upscaler(np.zeros((5, 5, 3), np.uint8))
    with open_backend(tmp_path / "n.onnx") as backend, pytest.raises(ArtefactError, match="was expected"):
        backend.run(np.zeros((1, 5, 5, 3), np.uint8))


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x09" * 400])
def test_an_onnx_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ArtefactError) as caught:
        open_backend(tmp_path / "x.onnx")
    assert "x.onnx" in caught.value.message


def test_a_truncated_onnx_is_refused(tmp_path: Path) -> None:
    write_box(tmp_path / "box.onnx")
    content = (tmp_path / "box.onnx").read_bytes()
    (tmp_path / "box.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtefactError, match="is not an ONNX file"):
        open_backend(tmp_path / "box.onnx")


@pytest.mark.parametrize(("name", "message"), [("gone.onnx", "does not exist"), ("x.txt", "is not an engine")])
def test_a_file_that_is_no_engine_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ArtefactError, match=message):
        open_backend(tmp_path / name)


@pytest.mark.parametrize(
    "batch",
    [np.zeros((1, 4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)],
)
def test_a_batch_that_the_network_cannot_take_never_reaches_it(tmp_path: Path, batch: np.ndarray) -> None:
    write_nearest(tmp_path / "n.onnx")
    with open_backend(tmp_path / "n.onnx") as backend, pytest.raises(ValueError, match=r"the network|expected"):
        backend.run(batch)


@pytest.mark.parametrize(("suffix", "package"), [("onnx", "onnxruntime"), ("safetensors", "torch")])
def test_a_missing_package_is_named_with_the_way_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, package: str
) -> None:
    real_import = builtins.__import__

    def without_package(name: str, *arguments: Any, **options: Any) -> Any:
        if name == package:
            raise ModuleNotFoundError(name, name=name)
        return real_import(name, *arguments, **options)

    (tmp_path / f"x.{suffix}").write_bytes(b"x")
    monkeypatch.delitem(sys.modules, "drc_deploy.runtime.backends.pytorch.backend", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_package)
    with pytest.raises(MissingDependencyError, match=package) as caught:
        open_backend(tmp_path / f"x.{suffix}")
    assert "pip install" in caught.value.hint


def test_a_package_that_is_there_and_cannot_be_loaded_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "broken/onnxruntime/__init__.py").write_text("raise ImportError('libx.so: failed to map segment')")
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "broken"))
    (tmp_path / "x.onnx").write_bytes(b"x")
    with pytest.raises(MissingDependencyError, match=r"cannot be loaded: libx\.so: failed to map") as caught:
        open_backend(tmp_path / "x.onnx")
    assert "ulimit" in caught.value.hint


def test_the_room_imports_neither_torch_nor_onnx_nor_a_gpu_library() -> None:
    program = """
import importlib, pkgutil, sys
import drc_deploy.runtime as room
for module in pkgutil.walk_packages(room.__path__, "drc_deploy.runtime."):
    if "torch" not in module.name:
        importlib.import_module(module.name)
print([name for name in ("torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "pycuda") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_graph_whose_name_is_no_text_is_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.onnx")
    write_nearest(tmp_path / "n.onnx")
    (tmp_path / "n.onnx").rename(path)
    with pytest.raises(ArtefactError, match="is no text in UTF-8") as caught:
        open_backend(path)
    assert caught.value.hint == "Rename the file or its folder."


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_a_graph_that_may_not_be_read_is_refused_as_such() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "n.onnx")
        write_nearest(path)
        path.chmod(0o600)
        os.chmod(folder, 0o755)
        open_backend(path).close()
        os.seteuid(65534)
        try:
            with pytest.raises(ArtefactError, match=r"cannot be read: Permission denied\."):
                open_backend(path)
        finally:
            os.seteuid(0)
