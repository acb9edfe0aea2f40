"""Long videos of one command, whose parts several workers make."""

import dataclasses
import time
from dataclasses import dataclass, field

from drc_deploy.runtime.cluster.tasks import LEAST_SEGMENTS, Done, JoinedVideo, VideoPart
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import Outcome
from drc_deploy.runtime.video.segments import Part

_PARTS_OF_A_WORKER = 2
"""Who has made one helps with what is left; each further one has all before it decoded once more."""


@dataclass(slots=True)
class _Parts:
    """How far the parts of a video are."""

    left: int
    count: int | None = None
    """Of segments, as far as is known."""
    known: bool = True
    """Whether all parts that have come to their end know where that is."""
    start: float = field(default_factory=time.perf_counter)


class LongVideos:
    """The parts of long videos."""

    def __init__(self, workers: int) -> None:
        """Begin with none, for so many workers."""
        self._most = _PARTS_OF_A_WORKER * workers
        self._videos: dict[UpscaleJob, _Parts] = {}

    def split(self, job: UpscaleJob, missing: tuple[int, ...]) -> list[VideoPart]:
        """Return parts of a video that has these segments missing."""
        count = max(min(self._most, len(missing) // LEAST_SEGMENTS), 1)
        firsts = [missing[index * len(missing) // count] for index in range(count)]
        self._videos[job] = _Parts(count)
        return [VideoPart(job, Part(first, stop)) for first, stop in zip(firsts, [*firsts[1:], None], strict=True)]

    def ended(self, task: VideoPart, done: Done | None) -> JoinedVideo | None:
        """Count a part as done, or as given up; return what follows the last one."""
        parts = self._videos[task.job]
        parts.left -= 1
        if done is None or done.end is None:
            parts.known = False
        elif done.end != task.part.stop:  # where a part begins behind the end, it ends there too
            parts.count = done.end if parts.count is None else min(done.end, parts.count)
        return None if parts.left else JoinedVideo(task.job, parts.count if parts.known else None)

    def timed(self, task: JoinedVideo, outcome: Outcome) -> Outcome:
        """Return an outcome with the seconds since the video was split."""
        seconds = round(time.perf_counter() - self._videos[task.job].start, 3)
        finished = [dataclasses.replace(each, seconds=seconds) for each in outcome.finished]
        return dataclasses.replace(outcome, finished=finished)
