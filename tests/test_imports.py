"""Imports run one way: from the command line to the stages to the core, and in the benchmark from show to machine."""

from pathlib import Path

import pytest

from tests.imports import ROOT, circles, import_graph, source_files

MAY_IMPORT = {
    "core": {"core"},
    "runtime": {"runtime", "core"},
    "train": {"train", "core"},
    "export": {"export", "runtime", "core"},
    "bench": {"bench", "runtime", "core"},
    "cli": {"cli", "train", "export", "bench", "runtime", "core"},
}
BENCH = ("machine", "measure", "programs", "report", "run", "comparison", "suite", "remote", "show")
"""Each folder imports only from those before it."""
MOST_FILES = 25


def room_of(module: str) -> str:
    parts = module.split(".")
    if module == "drc_deploy.__main__":
        return "cli"
    return parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else "core"


def test_no_module_imports_itself_through_others() -> None:
    assert circles(import_graph(source_files())) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]


def test_lazy_imports_and_those_of_modules_count(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("def f():\n    from pack import b\n    from pack.c import name\n    import pack.d\n")
    files = {"pack.a": path} | {f"pack.{name}": tmp_path / "none.py" for name in "bcd"}
    (tmp_path / "none.py").write_text("")
    assert import_graph(files)["pack.a"] == {"pack.b", "pack.c", "pack.d"}


def test_rooms_import_in_order() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, imported in import_graph(source_files()).items()
        for other in imported
        if room_of(other) not in MAY_IMPORT[room_of(name)]
    ]
    assert wrong == []


def test_folders_of_the_benchmark_import_in_order() -> None:
    def place(name: str) -> int:
        return BENCH.index(name.split(".")[2])

    graph = {name: seen for name, seen in import_graph(source_files()).items() if name.startswith("drc_deploy.bench.")}
    wrong = [
        f"{name} imports {other}"
        for name, imported in graph.items()
        for other in imported & graph.keys()
        if place(other) > place(name)
    ]
    assert wrong == []


@pytest.mark.parametrize("top", ["drc_deploy", "train", "export", "runtime", "bench", "tests"])
def test_no_folder_is_too_full_to_read(top: str) -> None:
    folders = [ROOT / top, *(path for path in (ROOT / top).rglob("*") if path.is_dir())]
    counts = {folder.relative_to(ROOT).as_posix(): len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}
