"""A page as a reader sees it: its text, the text of its sections, and its tables."""

from collections.abc import Iterable
from html.parser import HTMLParser

VOID = frozenset({"meta", "img", "br", "input"})


class ParsedPage(HTMLParser):
    """Parses a page, and fails where an element is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self._open: list[str] = []
        self._section = ""
        self._texts: list[tuple[str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        """Label of a table -> the texts of its cells, the headings first."""
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        """Each element with its attributes."""
        self._label = ""
        self.feed(page)
        self.close()
        assert self._open == []

    @property
    def text(self) -> str:
        """Everything that can be read."""
        return joined(text for _, text in self._texts)

    def section(self, name: str) -> str:
        """Return the text of the section with this id, nothing where the page has none."""
        return joined(text for section, text in self._texts if section == name)

    def count(self, tag: str, kind: str) -> int:
        """Return how many elements of a tag have a class."""
        return sum(found == tag and kind in (given.get("class") or "").split() for found, given in self.attributes)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.attributes.append((tag, given))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "section":
            self._section = given["id"] or ""
        if given.get("role") == "region":
            self._label = given["aria-label"] or ""
            self.tables[self._label] = []
        if tag == "tr":
            self.tables[self._label].append([])
        if tag in ("td", "th"):
            self.tables[self._label][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        self._texts.append((self._section, data))
        if {"td", "th"} & set(self._open):
            row = self.tables[self._label][-1]
            row[-1] = joined([row[-1], data])


def joined(texts: Iterable[str]) -> str:
    """Return texts as one line, with single spaces."""
    return " ".join(" ".join(texts).split())
