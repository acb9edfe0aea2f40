"""A headless Chromium for tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Open a browser and close it."""
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # as root, and in containers
        yield opened
        opened.close()


def assert_stopped(tab: Page, *directives: str) -> None:
    """Add what a page must not run or load, and look for the directives of its policy that stop it."""
    messages: list[str] = []
    tab.on("console", lambda message: messages.append(message.text))
    foreign = '<img src="http://127.0.0.1:9/x.png" onerror="window.ran = 1">'
    tab.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", foreign)
    tab.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
    tab.evaluate("fetch('http://127.0.0.1:9/').catch(() => 0)")
    tab.wait_for_timeout(200)
    for directive in directives:
        assert directive in " ".join(messages)
    assert tab.evaluate("window.ran") is None
