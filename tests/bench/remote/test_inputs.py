import hashlib
from pathlib import Path

import pytest

from drc_deploy.bench.remote.inputs import Inputs
from drc_deploy.errors import InputError, UsageError

KERNEL = "kernels_x4/a.npz"


def test_an_engine_lies_in_a_folder_of_its_content_and_is_copied_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "n.onnx").write_bytes(b"other" if name == "c" else b"same")
    inputs = Inputs()
    places = [inputs.add_engine(tmp_path / name / "n.onnx") for name in ("a", "b", "c")]
    same = hashlib.sha256(b"same").hexdigest()
    assert places[0] == places[1] == f"engines/{same[:16]}/n.onnx"
    assert places[2] != places[0]
    assert list(inputs.files) == [places[0], places[2]]
    assert inputs.digests[places[0]] == same


def test_a_plan_brings_its_onnx_and_an_onnx_brings_nothing(tmp_path: Path) -> None:
    for name in ("n.plan", "n.onnx", "n.float.onnx", "m.onnx"):
        (tmp_path / name).write_bytes(name.encode())
    inputs = Inputs()
    inputs.add_engine(tmp_path / "n.plan")
    inputs.add_engine(tmp_path / "m.onnx")
    assert [path.name for path in inputs.files.values()] == ["n.plan", "n.onnx", "m.onnx"]


def test_a_blind_network_brings_its_parts(tmp_path: Path) -> None:
    names = ["n.onnx", "n.kernel.onnx", "n.restorer.onnx"]
    plans = ["n.plan", "n.kernel.plan", "n.kernel.plan.json", "n.restorer.plan", "n.restorer.plan.json"]
    for name in (*names, *plans):
        (tmp_path / name).write_bytes(name.encode())
    of_onnx, of_plan = Inputs(), Inputs()
    of_onnx.add_engine(tmp_path / "n.onnx")
    of_plan.add_engine(tmp_path / "n.plan")
    assert [path.name for path in of_onnx.files.values()] == names
    assert sorted(path.name for path in of_plan.files.values()) == sorted([*names, *plans])


def test_only_images_are_copied_and_their_content_names_the_folder(tmp_path: Path) -> None:
    for name in ("HR/a.png", "HR/notes.txt", "LRx4/a.png", "LRx8/a.png", "LRx4_sym/a.png", "LRx4/b.png/c", KERNEL):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    first, chosen, later = Inputs(), Inputs(), Inputs()
    folder = first.add_images(tmp_path, None)
    assert {path.removeprefix(f"{folder}/") for path in first.files} == {"HR/a.png", "LRx4/a.png", "LRx8/a.png", KERNEL}
    sym = chosen.add_images(tmp_path, "LRx4_sym")
    assert set(chosen.files) == {f"{sym}/HR/a.png", f"{sym}/LRx4_sym/a.png"}
    (tmp_path / "HR/a.png").write_bytes(b"another")
    assert len({folder, sym, later.add_images(tmp_path, None)}) == 3


@pytest.mark.parametrize("name", ["../LRx4", "/LRx4"])
def test_images_from_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "HR").mkdir()
    with pytest.raises(UsageError, match="is not inside"):
        Inputs().add_images(tmp_path, name)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        Inputs().add_engine(tmp_path / "none.onnx")


def test_a_report_names_the_files_here(tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(b"n")
    inputs = Inputs()
    place = inputs.add_engine(tmp_path / "n.onnx")
    there = {"name": place, "rows": [[f"{place} failed", 3, None]], place: True}
    here = str(tmp_path / "n.onnx")
    assert inputs.as_here(there) == {"name": here, "rows": [[f"{here} failed", 3, None]], here: True}
