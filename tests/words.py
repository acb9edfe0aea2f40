"""Words that readers stumble over, in what users read: ``python -m tests.words`` lists where they are."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from tests.imports import ROOMS, ROOT

INSTEAD = {
    r"tells?|told": "report, show, print, know",
    r"beside": "next to, also, during",
    r"of which": "two sentences",
    r"contests?|campaigns?|rivals?|cargo|verdicts?|subjects?": "run, other program, files, result",
}
"""Forbidden words, and those that say the same plainly."""
FORBIDDEN = re.compile(rf"\b(?:{'|'.join(INSTEAD)})\b", re.IGNORECASE)
GIVE = re.compile(r"Gives?\b")
PAGES = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md")),
)

Found = tuple[str, int, str]
"""File or command, line, word."""


def in_page(name: str) -> Iterator[Found]:
    """Yield the forbidden words of a Markdown page, code aside."""
    fenced = False
    for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1):
        fenced ^= line.startswith("```")
        if not fenced:
            yield from _in_text(name, number, re.sub(r"`[^`]*`", "", line))


def in_help(command: click.Command, parent: click.Context | None = None, name: str = "drc-deploy") -> Iterator[Found]:
    """Yield the forbidden words of the help of a command and of those below it, as it is printed."""
    context = click.Context(command, info_name=name, parent=parent)
    for number, line in enumerate(command.get_help(context).splitlines(), 1):
        yield from _in_text(f"{context.command_path} --help", number, line)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from in_help(command.get_command(context, below), context, below)  # type: ignore[arg-type]


def in_code(path: Path) -> Iterator[Found]:
    """Yield the forbidden words of docstrings and messages, and docstrings that begin with "Give"."""
    tree, name = ast.parse(path.read_text(encoding="utf-8")), str(path.relative_to(ROOT))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield from _in_text(name, node.lineno, node.value)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and GIVE.match(ast.get_docstring(node) or ""):
            yield name, node.body[0].lineno, "Give"


def _in_text(name: str, line: int, text: str) -> Iterator[Found]:
    for match in FORBIDDEN.finditer(text):
        yield name, line + text.count("\n", 0, match.start()), match.group()


def in_room(room: str) -> list[Found]:
    """Return the forbidden words of all files of ``room``."""
    files = sorted(path for path in (ROOT / room).rglob("*.py") if not path.is_symlink())
    return [found for path in files for found in in_code(path)]


def main() -> None:
    """Print every word, and how many each folder has."""
    from drc_deploy.cli.main import cli

    found = [word for page in PAGES for word in in_page(page)]
    found += [word for room in ("drc_deploy", *ROOMS) for word in in_room(room)]
    found += list(in_help(cli))
    for name, line, word in found:
        print(f"{name}:{line}: {word}")  # noqa: T201
    for folder, count in sorted(Counter(str(Path(name).parent) for name, _, _ in found).items()):
        print(f"{count:5d}  {folder}")  # noqa: T201


if __name__ == "__main__":
    main()
