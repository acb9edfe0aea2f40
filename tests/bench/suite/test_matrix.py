from pathlib import Path

import pytest

from drc_deploy.bench.report.records import LeftOut
from drc_deploy.bench.run.inputs import EngineFile
from drc_deploy.bench.suite.halves import Halves
from drc_deploy.bench.suite.matrix import LARGEST_GROUP, EngineFacts, plan_matrix, plan_text, read_facts
from drc_deploy.errors import ArtefactError
from drc_deploy.files import sha256_of
from drc_deploy.locate import SHIPPED


def file(name: str, *, network: str = "n", sha256: str = "", any_size: bool = True, max_batch: int = 1) -> EngineFacts:
    return EngineFacts(EngineFile(name, Path(name)), sha256 or name, network, any_size, max_batch)


def names(files: list[EngineFacts], size: tuple[int, int] = (96, 128), *, cpu_too: bool = False) -> list[list[str]]:
    matrix = plan_matrix(files, size, cpu_too=cpu_too)
    return [[planned.file.name for planned in group] for group in matrix.groups]


def test_a_network_takes_all_tiles_that_are_smaller_than_the_input() -> None:
    assert names([file("a.onnx", max_batch=4)]) == [["a.onnx", "a.onnx, tiles of 64", "a.onnx, tiles of 64, 4 a call"]]
    assert names([file("a.onnx")], (64, 64)) == [["a.onnx"]]
    assert names([file("a.onnx")], (65, 10)) == [["a.onnx", "a.onnx, tiles of 64"]]


def test_an_engine_of_one_size_has_one_case_and_says_why() -> None:
    matrix = plan_matrix([file("a.plan", any_size=False, max_batch=4)], (500, 500), cpu_too=False)
    assert [[planned.file.name for planned in group] for group in matrix.groups] == [["a.plan"]]
    assert ("a.plan, tiles", "it takes one size only") in [(item.what, item.why) for item in matrix.left_out]


def test_the_cpu_is_measured_next_to_another_provider_for_onnx_only() -> None:
    files = [file("a.onnx"), file("a.safetensors")]
    assert names(files, (32, 32), cpu_too=True) == [["a.onnx", "a.onnx, CPU provider", "a.safetensors"]]
    assert names(files, (32, 32)) == [["a.onnx", "a.safetensors"]]


def test_a_checkpoint_is_planned_in_the_half_precisions_too_without_tiles() -> None:
    files = [file("a.safetensors"), file("a.onnx"), file("a.plan", any_size=False)]
    matrix = plan_matrix(files, (96, 128), cpu_too=False, halves=Halves(("fp16", "bf16")))
    (group,) = matrix.groups
    assert [(planned.file.name, planned.case.precision, planned.case.tile) for planned in group] == [
        ("a.safetensors", None, None),
        ("a.safetensors, fp16", "fp16", None),
        ("a.safetensors, bf16", "bf16", None),
        ("a.onnx", None, None),
        ("a.plan", None, None),
        ("a.safetensors, tiles of 64", None, 64),
        ("a.onnx, tiles of 64", None, 64),
    ]
    assert {planned.file.path for planned in group[:3]} == {Path("a.safetensors")}
    assert "tiles of checkpoints in fp16 and bf16" in [item.what for item in matrix.left_out]


def test_what_is_not_worthwhile_here_is_left_out_with_its_reason() -> None:
    slow = LeftOut("checkpoints in bf16", "it is slow here")
    matrix = plan_matrix([file("a.safetensors")], (32, 32), cpu_too=True, halves=Halves((), (slow,)))
    assert slow in matrix.left_out
    assert "left out: checkpoints in bf16: it is slow here" in plan_text(matrix).splitlines()
    assert not [item for item in matrix.left_out if item.what.startswith("tiles of checkpoints")]


def test_no_tiles_are_left_out_of_half_precision_where_there_are_none() -> None:
    matrix = plan_matrix([file("a.safetensors")], (64, 64), cpu_too=True, halves=Halves(("bf16",)))
    assert [item.what for item in matrix.left_out] == ["tiles of 64 and 128 and 256"]


def test_files_of_one_network_take_turns_and_those_of_two_do_not() -> None:
    files = [file("a.onnx"), file("b.onnx", network="m"), file("a.plan", any_size=False)]
    assert names(files, (32, 32)) == [["a.onnx", "a.plan"], ["b.onnx"]]


def test_the_same_file_twice_is_measured_once() -> None:
    matrix = plan_matrix([file("a.onnx", sha256="1"), file("b.onnx", sha256="1")], (32, 32), cpu_too=False)
    assert [len(group) for group in matrix.groups] == [1]
    assert ("b.onnx", "it is the same file as a.onnx") in [(item.what, item.why) for item in matrix.left_out]


def test_no_group_is_too_large_and_no_case_is_lost_or_doubled() -> None:
    files = [file(f"{number}.onnx", max_batch=4) for number in range(7)]
    groups = names(files, (300, 300), cpu_too=True)
    cases = [name for group in groups for name in group]
    assert max(map(len, groups)) <= LARGEST_GROUP
    assert len(set(cases)) == len(cases) == 7 * (1 + 3 + 3 + 1)
    text = plan_text(plan_matrix(files, (300, 300), cpu_too=True))
    assert text.startswith("56 cases in 7 groups")
    assert all(f"    {name}\n" in text + "\n" for name in cases)


def test_a_checkpoint_says_which_network_it_is_without_torch() -> None:
    path = SHIPPED / "drn_xs.safetensors"
    read = read_facts(EngineFile("drn_xs", path))
    assert (read.network, read.any_size, read.max_batch) == (sha256_of(path), True, 1)


@pytest.mark.parametrize("name", ["x.onnx", "x.safetensors"])
def test_a_damaged_file_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no network")
    with pytest.raises(ArtefactError):
        read_facts(EngineFile(name, tmp_path / name))


def test_a_plan_that_lost_its_sidecar_is_a_network_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "x.plan").write_bytes(b"plan")
    read = read_facts(EngineFile("x.plan", tmp_path / "x.plan"))
    assert (read.network, read.any_size) == (read.sha256, False)
