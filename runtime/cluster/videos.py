"""Long videos of one command, whose parts several workers make."""

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path

from drc_deploy.runtime.cluster.tasks import LEAST_SEGMENTS, Done, JoinedVideo, VideoPart
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import Outcome
from drc_deploy.runtime.video.segments import Part, segments_folder

_PARTS_OF_A_WORKER = 2
"""Who has made one helps with what is left; each further one has all before it decoded once more."""


@dataclass(slots=True)
class _Parts:
    """How far the parts of a video are."""

    left: int
    missing: int
    """Segments when the video was split."""
    there: int
    """Segments that were there by then."""
    made: int = 0
    """Of the missing ones, as far as ``steps`` has counted."""
    ended: bool = False
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
        self._newly_missing = 0

    @property
    def under_way(self) -> bool:
        """Whether there is one that has not ended."""
        return not all(parts.ended for parts in self._videos.values())

    def split(self, job: UpscaleJob, missing: tuple[int, ...]) -> list[VideoPart]:
        """Return parts of a video that has these segments missing."""
        count = max(min(self._most, len(missing) // LEAST_SEGMENTS), 1)
        firsts = [missing[index * len(missing) // count] for index in range(count)]
        self._videos[job] = _Parts(count, len(missing), _segments_of(job))
        self._newly_missing += len(missing)
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

    def end(self, job: UpscaleJob) -> None:
        """Count a video as done, or as given up, where it has been split."""
        if job in self._videos:
            self._videos[job].ended = True

    def steps(self) -> tuple[int, int]:
        """Return how many segments are to be made, and how many have been made, that this has not said before.

        Folders show them, whichever worker is at them. Those of a video that has ended count as made.
        """
        missing, self._newly_missing = self._newly_missing, 0
        return missing, sum(_newly_made(job, parts) for job, parts in self._videos.items())

    def timed(self, task: JoinedVideo, outcome: Outcome) -> Outcome:
        """Return an outcome with the seconds since the video was split."""
        seconds = round(time.perf_counter() - self._videos[task.job].start, 3)
        finished = [dataclasses.replace(each, seconds=seconds) for each in outcome.finished]
        return dataclasses.replace(outcome, finished=finished)


def _newly_made(job: UpscaleJob, parts: _Parts) -> int:
    made = parts.missing if parts.ended else min(_segments_of(job) - parts.there, parts.missing)
    before, parts.made = parts.made, max(made, parts.made)  # those of a worker that has ended may go
    return parts.made - before


def _segments_of(job: UpscaleJob) -> int:
    """Return how many segments of a video are there; those that are being written have hidden names."""
    folder = segments_folder(Path(job.output_name), str(Path(job.input_name).resolve()))
    try:
        return sum(path.stem.isdecimal() for path in folder.iterdir())
    except OSError:  # they have just been joined
        return 0
