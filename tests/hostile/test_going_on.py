"""Runs that are killed, whose sources, options and unfinished work change, and that go on: as if nothing had been."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from PIL import Image

from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.records import NAME, Records
from drc_deploy.runtime.jobs.run import RunOptions, run_jobs
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.options import EncoderOptions, VideoOptions
from drc_deploy.runtime.video.upscale import OneVideo
from tests.hostile.inputs import write_video
from tests.runtime.fake_backend import FakeBackend, fake_info

pytest.importorskip("av")

PICTURES = 10
SEGMENT_PICTURES = 3
KILLED = 9
NEVER = 1000
ENGINES = st.sampled_from("ab")
SOURCES = st.integers(0, 2)


class Mortal(FakeBackend):
    """Two engines of different images, in a process that ends without a word before picture ``last``."""

    def __init__(self, engine: str, last: int) -> None:
        super().__init__(fake_info())
        self._engine, self._last = engine, last

    def run(self, batch: Pixels) -> Pixels:
        if len(self.calls) == self._last:
            os._exit(KILLED)
        enlarged = super().run(batch)
        return enlarged if self._engine == "a" else 255 - enlarged


class GoingOn(RuleBasedStateMachine):
    """Whatever happened before: a run to the end makes what a fresh one makes, and leaves nothing else."""

    kept: ClassVar[frozenset[str]]
    """Files that stay next to sources and results."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.folder, self.source, self.engine = self.home / "work", 0, "a"
        self.folder.mkdir()
        self.write(self.folder, 0)

    @staticmethod
    def upscale(folder: Path, engine: str, last: int) -> None:
        """Upscale what lies in a folder, up to picture ``last``."""
        raise NotImplementedError

    @staticmethod
    def write(folder: Path, number: int) -> None:
        """Write what is upscaled, another one for another number."""
        raise NotImplementedError

    def teardown(self) -> None:
        shutil.rmtree(self.home)

    def run_in_child(self, folder: Path, last: int = NEVER) -> int:
        """Run in a process of its own, and return its exit code."""
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                self.upscale(folder, self.engine, last)
                code = 0
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    @rule(last=st.integers(2, PICTURES))
    def run_and_be_killed(self, last: int) -> None:
        assert self.run_in_child(self.folder, last) in {0, KILLED}

    @rule(number=SOURCES)
    def change_the_source(self, number: int) -> None:
        self.source = number
        self.write(self.folder, number)

    @rule(engine=ENGINES)
    def change_the_engine(self, engine: str) -> None:
        self.engine = engine

    @rule()
    def finish(self) -> None:
        assert self.run_in_child(self.folder) == 0
        fresh = self.home / "fresh"
        fresh.mkdir()
        self.write(fresh, self.source)
        assert self.run_in_child(fresh) == 0
        expected, found = ({**_files(folder)} for folder in (fresh, self.folder))
        shutil.rmtree(fresh)
        for name in self.kept:
            expected.pop(name, None)
            found.pop(name, None)
        assert found.keys() == expected.keys()
        assert {name for name, content in found.items() if expected[name] != content} == set()

    def unfinished(self) -> list[Path]:
        """Return the files of work that is not finished."""
        return sorted(path for path in self.folder.glob("*.segments/[!.]*") if path.is_file())

    @rule(last=st.integers(4, PICTURES), index=st.integers(0, 3), place=st.floats(0, 1, exclude_max=True))
    def damage_unfinished_work(self, last: int, index: int, place: float) -> None:
        self.run_and_be_killed(last)
        for path in self.unfinished()[index : index + 1]:
            content = bytearray(path.read_bytes() or b"x")
            content[int(place * len(content))] ^= 4
            path.write_bytes(content)
        self.finish()  # before anything else takes the damage away

    @rule(index=st.integers(0, 5))
    def delete_unfinished_work(self, index: int) -> None:
        for path in self.unfinished()[index : index + 1]:
            path.unlink()

    @invariant()
    def results_are_whole_or_not_there(self) -> None:
        for path in self.folder.glob("out/[!.]*.png"):
            with Image.open(path) as image:
                image.load()


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


class Clip(GoingOn):
    kept = frozenset()

    @staticmethod
    def upscale(folder: Path, engine: str, last: int) -> None:
        video = VideoOptions(EncoderOptions("h264", preset="ultrafast"), deinterlace=False)
        job, upscaler = UpscaleJob(folder / "in.mp4", folder / "out.mp4"), Upscaler(Mortal(engine, last))
        with (
            patch("drc_deploy.runtime.video.upscale.SEGMENT_FRAMES", SEGMENT_PICTURES),
            patch("drc_deploy.runtime.video.joining.SEGMENT_FRAMES", SEGMENT_PICTURES),
        ):
            OneVideo(upscaler, job, RunOptions(overwrite=True), {"engine": engine}, video).upscale()

    @staticmethod
    def write(folder: Path, number: int) -> None:
        write_video(folder / "in.mp4", PICTURES + number)


class Folder(GoingOn):
    kept = frozenset({f"out/{NAME}"})

    @staticmethod
    def upscale(folder: Path, engine: str, last: int) -> None:
        jobs = [UpscaleJob(path, folder / "out" / path.name) for path in sorted((folder / "in").iterdir())]
        options = RunOptions(skip_existing=True, records=Records({"engine": engine}))
        assert not run_jobs(Upscaler(Mortal(engine, last)), jobs, options).failed

    @staticmethod
    def write(folder: Path, number: int) -> None:
        """Write images, all of them other ones, some in other sizes, for another number."""
        shutil.rmtree(folder / "in", ignore_errors=True)
        (folder / "in").mkdir()
        for index in range(PICTURES // 2):
            pixels = np.full((8, 8 + index * number, 3), 10 * index + number, np.uint8)
            Image.fromarray(pixels).save(folder / "in" / f"{index}.png")


# The same every time: what a new seed finds must not fail a change that has nothing to do with it.
_SETTINGS = settings(
    max_examples=5, stateful_step_count=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TestClip, TestFolder = pytest.mark.slow(Clip.TestCase), pytest.mark.slow(Folder.TestCase)
TestClip.settings = TestFolder.settings = _SETTINGS
