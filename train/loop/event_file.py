"""Files that grow while a run lasts, and the one that TensorBoard shows.

TensorBoard's file is written with its own records, but without ``SummaryWriter``. That class writes from a thread of
its own: a full disk ends in a traceback, and a killed run loses its latest two minutes.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2

from drc_deploy.errors import OutputError
from drc_deploy.metrics import UInt8Image


class GrowingFile:
    """Appends to a file; what is written is with the system at once, so that a killed process loses none of it.

    Raises:
        OutputError: in every method, when the folder is not writable or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("ab", buffering=0)
        except OSError as error:
            raise self._failed(error) from error

    def write(self, data: bytes) -> None:
        """Append all of ``data``."""
        try:
            while data:
                data = data[self._stream.write(data) :]
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file; closing it again does nothing."""
        self._stream.close()

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write {self._path}: {error.strerror or error}.",
            "Make space, or the folder writable; the same command then goes on from the last saved state.",
        )


class EventFile:
    """One session's scalars and pictures, in a file of its own, next to the files of earlier sessions.

    Args:
        folder: Where TensorBoard looks.
        step: Updates that the run has made; what earlier sessions wrote of later ones is no longer shown.

    Raises:
        ModuleNotFoundError: TensorBoard is not installed.
        OutputError: in every method, when the folder is not writable or the disk is full.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        # TensorBoard knows event files by "tfevents" and reads them in the order of their names.
        self._file = GrowingFile(folder / f"events.out.tfevents.{time.time():017.6f}")
        self._records = RecordWriter(self._file)
        self._write(0, file_version="brain.Event:2")
        self._write(step + 1, session_log=SessionLog(status=SessionLog.START))

    def add_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to each of the curves that ``values`` names."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(step, summary=Summary(value=points))

    def add_pictures(self, step: int, pictures: Sequence[tuple[str, UInt8Image]]) -> None:
        """Add pictures by their tags, each (H, W, 3) uint8 RGB."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = []
        for tag, pixels in pictures:
            height, width = pixels.shape[:2]
            png = cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes()
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
            values.append(Summary.Value(tag=tag, image=image))
        self._write(step, summary=Summary(value=values))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, step: int, **content: object) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), step=step, **content).SerializeToString())
