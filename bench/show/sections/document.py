"""The document around the sections: its head, and the policy that keeps it from asking a network for anything."""

import base64
import hashlib
from collections.abc import Iterable
from html import escape

from drc_deploy.bench.show.page_assets import STYLE
from drc_deploy.bench.show.sections.slider_script import SCRIPT


def content_policy() -> str:
    """Return a Content-Security-Policy under which nothing is fetched and no script runs but that of the sliders."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def document(title: str, sections: Iterable[str]) -> str:
    """Return a page as text.

    Args:
        title: plain text.
        sections: HTML.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{content_policy()}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main><script>{SCRIPT}</script></body></html>\n"
    )
