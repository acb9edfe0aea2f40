"""How the segments of long videos are shared out, and what follows."""

from itertools import chain, permutations
from pathlib import Path

import pytest

from drc_deploy.runtime.cluster.tasks import Done, JoinedVideo
from drc_deploy.runtime.cluster.videos import LongVideos
from drc_deploy.runtime.jobs.plan import UpscaleJob


@pytest.mark.parametrize("missing", [range(4), range(5), range(7, 100), [0, 1, 9, 10, 11, 40], range(1, 3000)])
@pytest.mark.parametrize("workers", [2, 3, 50])
def test_parts_hold_everything_missing_once_and_about_as_much_each(missing: "range | list[int]", workers: int) -> None:
    job = UpscaleJob(Path("a"), Path("b"))
    parts = [task.part for task in LongVideos(workers).split(job, tuple(missing))]
    held = [[index for index in missing if index in part] for part in parts]
    assert list(chain(*held)) == list(missing)
    assert len(parts) <= 2 * workers
    assert min(map(len, held)) >= 2
    assert max(map(len, held)) - min(map(len, held)) <= 1
    assert parts[-1].stop is None


@pytest.mark.parametrize(
    ("ends", "count"),
    [
        ((3, 6, 9, 12), 12),
        ((3, 6, 9, 11), 11),
        ((3, 5, 6, 9), 5),
        ((2, 3, 6, 9), 2),
        ((3, None, 9, 12), None),
    ],
)
def test_the_end_of_a_video_is_the_first_that_a_part_has_met(ends: tuple[int | None, ...], count: int | None) -> None:
    job = UpscaleJob(Path("a"), Path("b"))
    for order in permutations(range(4)):
        videos = LongVideos(2)
        tasks = videos.split(job, tuple(range(12)))
        *before, last = [videos.ended(tasks[index], Done(end=ends[index])) for index in order]
        assert before == [None] * 3
        assert last == JoinedVideo(job, count)
