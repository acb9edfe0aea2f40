"""Figures of the code and its words, as a Markdown table.

python -m tests.house                                                   this checkout
python -m tests.house --before e738bed > docs/design/figures.md         next to an older commit
"""

import argparse
import ast
import io
import re
import statistics
import subprocess
import tarfile
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.imports import ROOMS, ROOT, circles, import_graph

PRODUCT = ("drc_deploy", *ROOMS)
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case, ast.IfExp)
COPY_LINES = 6
MOCK = re.compile(r"\b(?:monkeypatch\.setattr|mock\.|Mock\(|MagicMock|mocker\.)")

HEADER = """# Figures of the code

Counted by `python -m tests.house`. Function length includes the docstring. Complexity is McCabe's. Product code is
`drc_deploy`, `train`, `export`, `runtime` and `bench`, in physical lines.
"""


def figures(root: Path) -> dict[str, str]:
    """Return the value of every figure of the checkout in ``root``, by its name."""
    paths = {room: _python_files(root / room) for room in PRODUCT}
    files = [path for room in paths.values() for path in room]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    docstrings = [text for tree in trees.values() for _, text in _docstrings(tree)]
    functions = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, FunctionNode)]
    lines = {room: sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths[room]) for room in paths}
    lengths = [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]
    words = _words_a_sentence((root / "README.md").read_text(encoding="utf-8"))
    folders = Counter(path.parent.relative_to(root) for path in files)
    largest, count = max(folders.items(), key=lambda item: item[1])
    total, widest = sum(lines.values()), max(lines, key=lambda room: lines[room])
    return {
        "function length, median / p95": f"{statistics.median(lengths):.0f} / {_percentile(lengths, 95)} lines",
        "complexity, p95": str(_percentile([_complexity(node) for node in functions], 95)),
        "parameters and returns annotated": f"{_share(_annotations(functions)):.1f} %",
        "public things documented": f"{_share(_documented(trees.values())):.1f} %",
        f"copies of {COPY_LINES} lines or more": str(_copies(files)),
        "mocks per 100 tests": _mocks(_python_files(root / "tests")),
        "files in the largest folder": f"{count} (`{largest}`)",
        "largest room": f"`{widest}`, {lines[widest] / total:.0%}",
        "import circles, lazy imports counted": _circles(root, files),
        "README: words a sentence, mean / p90": f"{statistics.mean(words):.0f} / {_percentile(words, 90)}",
        "`tell`, `tells`, `told` per 1,000 docstrings": f"{_telling(docstrings) * 1000 / len(docstrings):.1f}",
        "docstrings that begin with `Give`": f"{sum(_gives(text) for text in docstrings)} of {len(docstrings):,}",
        "comments per line of code": f"{_comments(files):.3f}",
        **{f"lines in `{room}`": f"{lines[room]:,}" for room in PRODUCT},
        "lines in all": f"{total:,}",
    }


def _python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if not path.is_symlink())


def _percentile(values: Sequence[int], percent: int) -> int:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _share(flags: Iterator[bool]) -> float:
    found = list(flags)
    return 100 * sum(found) / len(found)


def _complexity(function: ast.AST) -> int:
    """Return McCabe's complexity, where nested functions add theirs."""
    return 1 + sum(isinstance(node, BRANCHES) for node in ast.walk(function))


def _annotations(functions: Sequence[FunctionNode]) -> Iterator[bool]:
    for function in functions:
        yield function.returns is not None
        given = function.args
        for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
            if argument and argument.arg not in ("self", "cls"):
                yield argument.annotation is not None


def _documented(nodes: Iterable[ast.AST]) -> Iterator[bool]:
    """Yield for every public module, class, function and method whether it has a docstring."""
    for node in nodes:
        if isinstance(node, DOCUMENTED) and not getattr(node, "name", "").startswith("_"):
            yield ast.get_docstring(node) is not None
            if not isinstance(node, FunctionNode):
                yield from _documented(node.body)


def _docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def _copies(files: Sequence[Path]) -> int:
    """Return how many passages of ``COPY_LINES`` lines or more, imports aside, stand somewhere else to the letter."""
    seen: set[tuple[str, ...]] = set()
    passages = 0
    for path in files:
        kept = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        kept = [line for line in kept if line and not line.startswith(("import ", "from ", "#"))]
        inside = False
        for start in range(len(kept) - COPY_LINES + 1):
            window = tuple(kept[start : start + COPY_LINES])
            passages += window in seen and not inside
            inside = window in seen
            seen.add(window)
    return passages


def _mocks(tests: Sequence[Path]) -> str:
    texts = [path.read_text(encoding="utf-8") for path in tests]
    count = sum(len(re.findall(r"^\s*def test_", text, re.MULTILINE)) for text in texts)
    return f"{sum(len(MOCK.findall(text)) for text in texts) * 100 / count:.1f}"


def _circles(root: Path, files: Sequence[Path]) -> str:
    def name(path: Path) -> str:
        parts = path.relative_to(root).with_suffix("").parts
        return ".".join(parts if parts[0] == "drc_deploy" else ("drc_deploy", *parts)).removesuffix(".__init__")

    found = circles(import_graph({name(path): path for path in files}))
    return f"{len(found)} (of {', '.join(str(len(ring)) for ring in found)} files)" if found else "0"


def _words_a_sentence(markdown: str) -> list[int]:
    """Return the number of words of every sentence outside code, tables, headings and comments."""
    prose = re.sub(r"```.*?```|<!--.*?-->", "", markdown, flags=re.DOTALL)
    prose = re.sub(r"^(?: {4}|\||#|!\[).*$", "", prose, flags=re.MULTILINE)
    prose = re.sub(r"\]\([^)]*\)|[*_`\[]", "", prose)
    sentences = re.split(r"(?<=[.!?:])\s+|\n\n+|\n(?=- )", prose)
    return [count for sentence in sentences if (count := len(re.findall(r"\w[\w.'-]*", sentence))) > 1]


def _telling(docstrings: Sequence[str]) -> int:
    return sum(len(re.findall(r"\b(?:tell|tells|told)\b", text, re.IGNORECASE)) for text in docstrings)


def _gives(docstring: str) -> bool:
    return re.match(r"Gives?\b", docstring) is not None


def _comments(files: Sequence[Path]) -> float:
    comments = code = 0
    for path in files:
        kinds: dict[int, set[int]] = {}
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            for line in range(token.start[0], token.end[0] + 1):
                kinds.setdefault(line, set()).add(token.type)
        comments += sum(tokenize.COMMENT in kind for kind in kinds.values())
        blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
        code += sum(bool(kind - blank) for kind in kinds.values())
    return comments / code


def _old(revision: str) -> dict[str, str]:
    packed = subprocess.run(["git", "archive", revision], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
        return figures(Path(folder))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", metavar="REVISION", help="a commit to compare with")
    before = parser.parse_args().before
    columns = {**({before: _old(before)} if before else {}), "now": figures(ROOT)}
    print(HEADER)  # noqa: T201
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")  # noqa: T201
    for name in columns["now"]:
        print(f"| {name} | {' | '.join(column[name] for column in columns.values())} |")  # noqa: T201


if __name__ == "__main__":
    main()
