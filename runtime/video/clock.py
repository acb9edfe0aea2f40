"""When the pictures of a video are shown, where its container says so and where it does not."""

from typing import Protocol


class Timed(Protocol):
    """A decoded frame, as far as time is concerned."""

    @property
    def pts(self) -> int | None:
        """When it is shown, as the container says."""

    @property
    def dts(self) -> int | None:
        """The decoding time of the packet that let it out."""


class Clock:
    """Time stamps of decoded frames, in the order in which they are shown; each is later than the one before.

    An AVI knows no time of showing, and others have times that fall. The rule is FFmpeg's "best effort"
    (libavcodec/decode.c, guess_correct_pts), which PyAV does not pass on: whichever of the two kinds of time went
    wrong less often.
    """

    def __init__(self, step: int) -> None:
        """Begin; ``step`` is how many ticks a frame takes where nothing says so."""
        self._step = max(step, 1)
        self._last: int | None = None
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._wrong_pts = self._wrong_dts = 0

    def time_of(self, frame: Timed) -> int:
        """Return the time of the next frame, in ticks."""
        best = self._best(frame.pts, frame.dts)
        if best is None:
            best = 0 if self._last is None else self._last + self._step
        if self._last is not None and best <= self._last:
            best = self._last + 1
        self._last = best
        return best

    def _best(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._wrong_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._wrong_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        return pts if pts is not None and (dts is None or self._wrong_pts <= self._wrong_dts) else dts
