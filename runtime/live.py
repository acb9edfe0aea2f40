"""Frames that come when they come, as from a camera: what waits is bounded, and read by a thread of its own."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

import numpy as np

from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.paired import paired


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """A frame of a source, or what was made of it."""

    index: int
    """Its number among all frames of the source, from 0: where one is missing, a frame was dropped."""
    pixels: Pixels


class LiveSource:
    """The frames that were read and not taken yet. Nothing of the source is used by any other thread."""

    def __init__(self, frames: Iterable[Pixels], most: int, *, drop: bool) -> None:
        """Begin to read ``frames``; of more than ``most`` the oldest are dropped, or reading waits."""
        self._frames, self._most, self._drop = frames, most, drop
        self._waiting: deque[LiveFrame] = deque()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ended = self._closed = False
        # Not waited for where the program ends without `close`: the camera may never give another frame.
        self._thread = threading.Thread(target=self._run, name="frames", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            try:
                self._read()
            finally:
                if isinstance(self._frames, Generator):
                    self._frames.close()  # here, where it runs
        except BaseException as error:  # whatever it is, it is for who takes the frames
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read(self) -> None:
        for index, pixels in enumerate(self._frames):
            # Copied: many sources fill the same array again.
            frame = LiveFrame(index, np.array(pixels) if isinstance(pixels, np.ndarray) else pixels)
            with self._changed:
                while not self._drop and len(self._waiting) == self._most and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                if len(self._waiting) == self._most:
                    self._waiting.popleft()
                self._waiting.append(frame)
                self._changed.notify_all()

    def wait(self) -> LiveFrame | None:
        """Take the oldest frame, when there is one; None at the end.

        Raises:
            BaseException: what the source raised, after its last frame was taken.
        """
        with self._changed:
            while not self._waiting and not self._ended:
                self._changed.wait()
            if not self._waiting and self._error:
                raise self._error
            return self._take()

    def take(self) -> LiveFrame | None:
        """Take the oldest frame; None where none waits now."""
        with self._changed:
            return self._take()

    def _take(self) -> LiveFrame | None:
        frame = self._waiting.popleft() if self._waiting else None
        self._changed.notify_all()
        return frame

    def close(self) -> None:
        """Read no more, and wait until the source is closed: when it has given the frame that it is asked for."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()


def upscaled_live(
    upscale: Callable[[Iterable[Pixels]], Iterator[Pixels]], frames: Iterable[Pixels], most: int, *, drop: bool
) -> Generator[LiveFrame, None, None]:
    """Yield the result of every frame that is not dropped, in order; see ``Upscaler.live``.

    Args:
        upscale: Upscales many; some are taken ahead.
        frames: Of the source, which is closed in the end where it is a generator.
        most: Frames that may wait.
        drop: Whether the oldest are dropped for more, instead of waiting with reading.
    """
    with closing(LiveSource(frames, most, drop=drop)) as source:
        while first := source.wait():
            # A stream ends where none waits: else results under way would wait for frames to come.
            at_hand = chain([first], iter(source.take, None))
            del first
            for frame, result in paired(at_hand, lambda given: upscale(frame.pixels for frame in given)):
                yield LiveFrame(frame.index, result)
