import hashlib
from pathlib import Path

import pytest

from drc_deploy.bench.remote.cargo import Cargo, pack_engine, pack_images
from drc_deploy.bench.run.inputs import EngineFile
from drc_deploy.errors import InputError, UsageError


def file(path: Path) -> EngineFile:
    return EngineFile(path.name, path)


def test_an_engine_lies_in_a_folder_of_its_content_and_is_carried_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "n.onnx").write_bytes(b"other" if name == "c" else b"same")
    cargo = Cargo()
    places = [pack_engine(cargo, file(tmp_path / name / "n.onnx")) for name in ("a", "b", "c")]
    same = hashlib.sha256(b"same").hexdigest()
    assert places[0] == places[1] == f"engines/{same[:16]}/n.onnx"
    assert places[2] != places[0]
    assert [file.path for file in cargo.files] == [places[0], places[2]]
    assert (cargo.files[0].size_bytes, cargo.files[0].sha256) == (4, same)


def test_a_plan_brings_its_neighbours_and_an_onnx_does_not(tmp_path: Path) -> None:
    for name in ("n.plan", "n.onnx", "n.float.onnx", "m.onnx"):
        (tmp_path / name).write_bytes(name.encode())
    cargo = Cargo()
    pack_engine(cargo, file(tmp_path / "n.plan"))
    pack_engine(cargo, file(tmp_path / "m.onnx"))
    assert [path.name for path in cargo.sources] == ["n.plan", "n.onnx", "m.onnx"]


def test_images_are_carried_without_what_is_no_image_and_told_apart_by_content(tmp_path: Path) -> None:
    for name in ("HR/a.png", "HR/notes.txt", "LRx4/a.png", "LRx8/a.png", "LRx4_sym/a.png", "LRx4/b.png/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    first, chosen, later = Cargo(), Cargo(), Cargo()
    folder = pack_images(first, tmp_path, None)
    assert {file.path.removeprefix(f"{folder}/") for file in first.files} == {"HR/a.png", "LRx4/a.png", "LRx8/a.png"}
    sym = pack_images(chosen, tmp_path, "LRx4_sym")
    assert {file.path for file in chosen.files} == {f"{sym}/HR/a.png", f"{sym}/LRx4_sym/a.png"}
    (tmp_path / "HR/a.png").write_bytes(b"another")
    assert len({folder, sym, pack_images(later, tmp_path, None)}) == 3


@pytest.mark.parametrize("name", ["../LRx4", "/LRx4"])
def test_images_from_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "HR").mkdir()
    with pytest.raises(UsageError, match="is not inside"):
        pack_images(Cargo(), tmp_path, name)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        pack_engine(Cargo(), file(tmp_path / "none.onnx"))


def test_a_report_speaks_of_the_files_here(tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(b"n")
    cargo = Cargo()
    place = pack_engine(cargo, file(tmp_path / "n.onnx"))
    there = {"name": place, "rows": [[f"{place} failed", 3, None]], place: True}
    here = str(tmp_path / "n.onnx")
    assert cargo.translated(there) == {"name": here, "rows": [[f"{here} failed", 3, None]], here: True}
