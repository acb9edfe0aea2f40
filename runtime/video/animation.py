"""An animation as the pictures of a video."""

from collections.abc import Generator
from fractions import Fraction
from itertools import accumulate, islice
from pathlib import Path

from drc_deploy.images.animation.reading import Animation, frames_of
from drc_deploy.images.animation.ticks import Ticks
from drc_deploy.runtime.video.colours import AS_ON_A_SCREEN
from drc_deploy.runtime.video.reading import Frame, VideoInfo

_PER_SECOND = 1000
_TOO_SHORT, _SHOWN_FOR = Fraction(1, 100), Fraction(1, 10)
"""Seconds: what is said to be as short as the first is shown for the second, by all browsers."""


def animation_info(animation: Animation) -> VideoInfo:
    """Return the properties of an animation as those of a video that plays once."""
    steps = _steps(animation)
    return VideoInfo(
        height=animation.height,
        width=animation.width,
        display_matrix=None,
        time_base=Fraction(1, _PER_SECOND),
        rate=Fraction(len(steps) * _PER_SECOND, sum(steps)),
        frame_count=len(steps),
        first=0,
        end=sum(steps),
        start_s=Fraction(0),
        pixel_aspect=Fraction(1),
        colours=AS_ON_A_SCREEN,
        hdr=None,
        bits=8,
        alpha=animation.alpha,
        interlaced=False,
        notes=animation.notes,
    )


def animation_frames(path: Path, animation: Animation, *, skip: int = 0) -> Generator[Frame, None, None]:
    """Decode all frames but the first ``skip``; see ``frames_of`` of animations for errors."""
    steps = _steps(animation)
    shown = zip(frames_of(path, animation), accumulate(steps, initial=0), steps, strict=False)
    for frame, begin, duration in islice(shown, skip, None):
        yield Frame(frame.pixels, begin, duration)


def _steps(animation: Animation) -> list[int]:
    """Return the milliseconds for which each frame is shown."""
    ticks = Ticks(_PER_SECOND)
    return [ticks.of(_SHOWN_FOR if each <= _TOO_SHORT else each, least=1) for each in animation.durations]
