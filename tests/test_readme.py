"""Every command and every program of README and docs runs as printed, or says above it why it is not run."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from drc_deploy.locate import SAMPLES
from tests.imports import ROOT

PAGES = sorted(["README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))])
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
SHELL, PYTHON, SHOWN = ("bash", "sh", "console"), ("python",), ("text", "toml", "json")
FRESH = ("README.md",)
"""Pages for a reader who has made nothing yet."""
LIMIT_S = 600
"""Each takes seconds where nothing else runs."""


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    reason: str | None
    """Why it is not run."""


def blocks(page: str) -> Iterator[Block]:
    for match in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
        yield Block(match["language"], match["text"], match["reason"])


def to_run(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.language in SHELL + PYTHON and not block.reason]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    assert {block.language for block in blocks(page)} <= {*SHELL, *PYTHON, *SHOWN}
    outside = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    assert not re.search(r"^(?:```|<!-- not run| {4}drc-deploy )", outside, re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files_and_headings(page: str) -> None:
    for target, heading in re.findall(
        r"\]\((?!https?:)([^)#]+)(?:#([^)]+))?\)", (ROOT / page).read_text(encoding="utf-8")
    ):
        assert (ROOT / target).exists(), target
        if heading:
            assert heading in _headings(ROOT / target), f"{target}#{heading}"


def _headings(page: Path) -> set[str]:
    """Return the names that GitHub and MkDocs make of the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment with a ``drc-deploy`` that runs this source."""
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "drc-deploy"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m drc_deploy "$@"\n')
    command.chmod(0o755)
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def exported(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a work folder with ``drn_xs.onnx`` and its exact form, which several pages use."""
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("exported")
    _run(["drc-deploy", "export", "drn_xs", "--exact"], folder, environment)
    return folder / "drc_runs"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if to_run(page)])
def test_what_a_page_shows_runs_in_its_order(
    page: str, exported: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    _photographs(tmp_path)
    if page not in FRESH:
        shutil.copytree(exported, tmp_path / "drc_runs")
    for block in to_run(page):
        shell = block.language in SHELL
        _run(["bash", "-ec", block.text] if shell else [sys.executable, "-c", block.text], tmp_path, environment)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"


def _photographs(folder: Path) -> None:
    """Write a photograph, and two more into ``photos``."""
    (folder / "photos").mkdir()
    with Image.open(SAMPLES / "rocket.jpg") as photograph:
        for number, name in enumerate(["photo.jpg", "photos/a.jpg", "photos/b.jpg"]):
            photograph.crop((200 + number, 100, 264 + number, 148)).save(folder / name)


def test_the_torch_that_pages_install_is_that_of_the_tests() -> None:
    pinned = re.findall(r"^torch==\S+", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    named = {name for page in PAGES for name in re.findall(r"torch==[\d.]+\d", (ROOT / page).read_text("utf-8"))}
    assert named == set(pinned)
