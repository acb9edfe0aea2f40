"""Several processes make parts of one video: the result is that of one, and nobody else gets in between.

Ten frames make four segments, the last of one frame.
"""

import threading
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest

from drc_deploy.errors import OutputError
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import RunOptions
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.segments import Part
from drc_deploy.runtime.video.upscale import OneVideo
from tests.hostile.inputs import write_video
from tests.runtime.fake_backend import FakeBackend, fake_info

pytest.importorskip("av")
pytestmark = pytest.mark.usefixtures("short_segments")


class Frames(FakeBackend):
    """Counts frames, and calls ``before`` each."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        super().__init__(fake_info())
        self._before = before

    def run(self, batch: Pixels) -> Pixels:
        self._before()
        return super().run(batch)


def video(clip: Path, backend: FakeBackend | None = None, name: str = "out.mp4", engine: str = "a") -> OneVideo:
    job = UpscaleJob(clip, clip.with_name(name))
    return OneVideo(Upscaler(backend or Frames()), job, RunOptions(), {"engine": engine})


@pytest.mark.parametrize("order", list(permutations([Part(0, 1), Part(1, 3), Part(3)])))
def test_parts_in_any_order_make_the_video_of_one_process(clip: Path, order: tuple[Part, ...]) -> None:
    video(clip, name="whole.mp4").upscale()
    assert video(clip).missing_segments(2) == [0, 1, 2, 3]
    ends = {part: video(clip).make_part(part) for part in order}
    assert ends == {Part(0, 1): 1, Part(1, 3): 3, Part(3): 4}
    rest = Frames()
    (finished,) = video(clip, rest).upscale(4).finished
    assert (finished.frames, rest.calls) == (10, [])
    assert clip.with_name("out.mp4").read_bytes() == clip.with_name("whole.mp4").read_bytes()
    assert not clip.with_name("out.segments").exists()


def test_a_longer_source_that_comes_after_the_parts_is_upscaled_to_its_end(clip: Path) -> None:
    video(clip).missing_segments(2)
    assert video(clip).make_part(Part()) == 4
    write_video(clip, 14)
    (finished,) = video(clip).upscale(4).finished
    assert finished.frames == 14


def test_a_part_that_was_stopped_goes_on_after_its_last_segment(clip: Path) -> None:
    def stop() -> None:
        if len(stopping.calls) == 5:
            raise KeyboardInterrupt

    stopping, rest = Frames(stop), Frames()
    video(clip).missing_segments(2)
    with pytest.raises(KeyboardInterrupt):
        video(clip, stopping).make_part(Part(1))
    assert video(clip, rest).make_part(Part(1)) == 4
    assert len(rest.calls) == 4


def test_a_later_run_makes_what_is_missing_between(clip: Path) -> None:
    video(clip, name="whole.mp4").upscale()
    video(clip).missing_segments(2)
    video(clip).make_part(Part(1, 2))
    assert video(clip).missing_segments(2) == [0, 2, 3]
    rest = Frames()
    video(clip, rest).upscale()
    assert len(rest.calls) == 7
    assert clip.with_name("out.mp4").read_bytes() == clip.with_name("whole.mp4").read_bytes()


def test_a_part_behind_the_end_is_empty_and_says_so(clip: Path) -> None:
    video(clip).missing_segments(2)
    assert video(clip).make_part(Part(2, 6)) == 4
    assert video(clip).make_part(Part(6)) == 6


def test_a_short_video_and_one_that_is_there_have_nothing_missing_and_no_folder(clip: Path) -> None:
    assert video(clip).missing_segments(5) == []
    done = video(clip)
    done.upscale()
    again = OneVideo(done.upscaler, done.job, RunOptions(skip_existing=True), {"engine": "a"})
    assert again.missing_segments(2) == []
    assert {path.name for path in clip.parent.iterdir()} == {"in.mp4", "out.mp4"}


@pytest.mark.parametrize("what", [OneVideo.upscale, lambda other: other.missing_segments(2)])
def test_nobody_else_gets_in_while_a_part_is_made_but_other_parts(clip: Path, what: Callable[[OneVideo], None]) -> None:
    def come_in() -> None:
        if not others:
            others.append(video(clip).make_part(Part(0, 2)))
            with pytest.raises(OutputError, match=r"another process is writing .*out\.segments"):
                what(video(clip, engine="b"))

    others: list[int] = []
    video(clip).missing_segments(2)
    assert video(clip, Frames(come_in)).make_part(Part(2)) == 4
    assert others == [2]
    assert video(clip).missing_segments(2) == []


def test_a_part_is_refused_where_the_whole_is_made_or_something_else_was_begun(clip: Path) -> None:
    def make_part() -> None:
        with pytest.raises(OutputError, match="another process is writing"):
            video(clip, name="whole.mp4").make_part(Part(1))

    video(clip, Frames(make_part), name="whole.mp4").upscale()
    video(clip, engine="b").missing_segments(2)
    with pytest.raises(OutputError, match="of another source"):
        video(clip).make_part(Part(0, 1))
    with pytest.raises(OutputError, match="another process"):
        video(clip, name="never_begun.mp4").make_part(Part(0, 1))


def test_parts_that_are_made_at_once_lose_no_checksum(clip: Path) -> None:
    video(clip).missing_segments(2)
    parts = [Part(index, index + 1) for index in range(3)] + [Part(3)]
    threads = [threading.Thread(target=video(clip).make_part, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert video(clip).missing_segments(2) == []
    lines = (clip.with_name("out.segments") / "SHA256SUMS").read_text().splitlines()
    assert [line.split()[1] for line in lines[1:]] == [f"{index:06d}.nut" for index in range(4)]
    assert not list(clip.with_name("out.segments").glob("SHA256SUMS.*"))
