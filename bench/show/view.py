"""The parts of a page as data, and the page that the templates make of them."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.printing import printable

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table, or an entry of a list."""

    text: str
    small: tuple[str, ...] = ()
    """Smaller lines below the text; empty ones are left out."""
    engine: int | None = None
    """Place of an engine by latency, whose number and colour stand in front of the text."""
    kind: str = ""
    """Class of the text in the style sheet: good or bad."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that may be wider than the window."""

    label: str
    """Its name for screen readers."""
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    kind: str = ""
    """Class of the table in the style sheet."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a page."""

    id: str
    title: str
    part: str
    """Which macro of ``sections.html`` shows it."""
    view: Mapping[str, object]
    """What the macro shows."""


def render(template: str, **view: object) -> str:
    """Return a page as text.

    Its Content-Security-Policy forbids to fetch anything, and to run any script but the one for the sliders.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "slider.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template(template).render(style=style, script=script, script_sha256=digest, **view)
    return printable(page)
