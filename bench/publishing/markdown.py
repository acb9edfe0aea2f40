"""Markdown that pastes into a GitHub comment and can be read in a terminal."""

import re
from collections.abc import Sequence
from unicodedata import category

_SPECIAL = re.compile(r"[\\`*\[\]<>|~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_PLAIN_CODE = re.compile(r"[^`|\\]*[^`|\\ ][^`|\\]*")


def one_line(text: str) -> str:
    """Give text without line breaks and what cannot be shown: the name of a file may hold any character."""
    return "".join("\ufffd" if category(character) in {"Cc", "Cs", "Zl", "Zp"} else character for character in text)


def prose(text: str) -> str:
    """Give text that Markdown shows as it is, also in a cell of a table."""
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", one_line(text))


def code(text: str) -> str:
    """Give a name as code, so that nothing in it is markup, a link or a mention, also in a cell of a table."""
    text = one_line(text)
    if _PLAIN_CODE.fullmatch(text):
        return f"`{text}`"
    return f"<code>{re.sub('[^A-Za-z0-9 ./-]', lambda found: f'&#{ord(found[0])};', text)}</code>"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give a table with the first column on the left and the others, which are numbers, on the right.

    Cells are Markdown: pass what may hold special characters through ``prose`` or ``code``.
    """
    widths = [max(2, *(len(row[column]) for row in (headings, *rows))) for column in range(len(headings))]
    rules = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_line(headings, widths), f"| {' | '.join(rules)} |"]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return f"| {' | '.join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])} |"
