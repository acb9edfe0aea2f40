"""Which module of the project imports which: lazy imports and those for type checkers counted."""

import ast
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("train", "export", "runtime", "bench")

Graph = dict[str, set[str]]
"""Module name -> the modules of the project that it imports."""


def source_files() -> dict[str, Path]:
    """Return the file of every product module by its import name."""
    found = {}
    for path in (ROOT / "drc_deploy").rglob("*.py"):
        found[_module(path.relative_to(ROOT))] = path
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            found[f"drc_deploy.{_module(path.relative_to(ROOT))}"] = path
    return found


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def import_graph(files: dict[str, Path]) -> Graph:
    """Return the graph of ``files``. A package's ``__init__`` counts only where the package itself is imported."""
    return {name: _imports_of(path, files.keys()) - {name} for name, path in files.items()}


def _imports_of(path: Path, known: Collection[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return {name for name in found if name in known}


def circles(graph: Graph) -> list[set[str]]:
    """Return the sets of nodes that can reach each other (strongly connected, of two and more)."""
    reach = {name: _reachable(graph, name) for name in graph}
    rings = {frozenset(other for other in reach[name] if name in reach[other]) for name in graph if name in reach[name]}
    return sorted((set(ring) for ring in rings), key=sorted)


def _reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead.extend(graph[name])
    return seen


def by_folder(graph: Graph, files: dict[str, Path]) -> Graph:
    """Return the graph of the packages that hold the modules; imports inside one package do not count."""
    folders: Graph = {}
    for name, imported in graph.items():
        own = _package(name, files)
        folders.setdefault(own, set()).update({_package(other, files) for other in imported} - {own})
    return folders


def _package(name: str, files: dict[str, Path]) -> str:
    return name if files[name].name == "__init__.py" else name.rpartition(".")[0]
