"""The journal of a run: one JSON object a line for programs, and TensorBoard for people.

Torch is not needed, so that ``drc-deploy plot`` starts at once.
"""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2

from drc_deploy.errors import ArtefactError, OutputError
from drc_deploy.files import write_text
from drc_deploy.input_files import read_bytes
from drc_deploy.locate import CHECKPOINT_SUFFIX
from drc_deploy.metrics import UInt8Image
from drc_deploy.printing import say

RUN_SUFFIX = ".run"
LOG_FILE = "log.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
_WHICH_FOLDER = f"Give the folder that `drc-deploy train` makes next to its result (NAME{RUN_SUFFIX})."


class Journal(AbstractContextManager["Journal"]):
    """Writes ``log.jsonl`` and ``tensorboard/`` in a run's folder.

    Each line is ``{"kind": "train" | "validation", "step": ..., "time": ISO 8601 in UTC, ...values}``. Every line is
    with the system before the next update, so that a killed run loses none.

    Args:
        folder: Of the run.
        step: Updates that the run has made; what a killed session wrote of later ones is dropped. 0 starts anew.

    Raises:
        ArtefactError: the log of the run that goes on is damaged.
        OutputError: in every method, when the folder is not writable or the disk is full.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        path = folder / LOG_FILE
        lines = _whole_lines(path) if step else []
        write_text(path, "".join(f"{line}\n" for line in lines if _parse(line, path)["step"] <= step))
        self._log = GrowingFile(path)
        self._events = _open_events(folder / TENSORBOARD_FOLDER, step)

    def __exit__(self, *_error: object) -> None:
        self.close()

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Write what was seen of training after ``step`` updates; what is not finite is null in the log."""
        self._write("train", step, values)

    def validated(self, step: int, psnr: float, pictures: Sequence[tuple[str, UInt8Image]]) -> None:
        """Write the PSNR on the validation images in dB; named (H, W, 3) pictures go to TensorBoard alone."""
        self._write("validation", step, {"psnr": psnr})
        if self._events:
            self._events.add_pictures(step, [(f"validation/{name}", picture) for name, picture in pictures])

    def close(self) -> None:
        """Close the files."""
        self._log.close()
        if self._events:
            self._events.close()

    def _write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        plain = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"kind": kind, "step": step, "time": now, **plain})
        self._log.write(f"{line}\n".encode())
        if self._events:
            self._events.add_scalars(step, {f"{kind}/{name}": float(value) for name, value in values.items()})


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
    """One session's scalars and pictures for TensorBoard, in a file of its own, next to the files of earlier sessions.

    It is written with TensorBoard's own records, but without ``SummaryWriter``. That class writes from a thread of its
    own: a full disk ends in a traceback, and a killed run loses its latest two minutes.

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


def _open_events(folder: Path, step: int) -> EventFile | None:
    try:
        return EventFile(folder, step=step)
    except ModuleNotFoundError:
        hint = "pip install 'drc-deploy[train]' brings it"
        say(f"TensorBoard is not installed ({hint}): this run is written to {LOG_FILE} alone.", err=True)
        return None


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """Read the log of a run, in the order of writing; a last line that is only half there is left out.

    Returns:
        ``kind`` (str), ``step`` (int), ``time`` (str) and values (float, or None for what was not finite).

    Raises:
        ArtefactError: there is no log, or it holds something else.
    """
    path = folder / LOG_FILE
    if not path.is_file():
        raise ArtefactError(f"{folder} holds no {LOG_FILE}.", _WHICH_FOLDER)
    return [_parse(line, path) for line in _whole_lines(path)]


def find_run(reference: str, workdir: Path) -> Path:
    """Find a run by its folder, by the checkpoint next to it, or by its name in ``workdir``, in this order.

    Raises:
        ArtefactError: there is none.
    """
    # Of os.path, because it calls no folder what Path's own raise for: `~nobody`, an endless name.
    path = Path(os.path.expanduser(reference))
    candidates = []
    for given in (path, workdir / path):
        name = f"{given.name.removesuffix(CHECKPOINT_SUFFIX)}{RUN_SUFFIX}"
        candidates += [given, given.parent / name]
    found = [folder for folder in candidates if os.path.isdir(folder)]
    for folder in found:
        if os.path.isfile(folder / LOG_FILE):
            return folder
    if found:
        raise ArtefactError(f"{found[0]} holds no {LOG_FILE}.", _WHICH_FOLDER)
    raise ArtefactError(f"there is no run {reference!r}, here or in {workdir}.", _WHICH_FOLDER)


def _whole_lines(path: Path) -> list[str]:
    """Return the lines that end in a line break, or none when there is no file."""
    try:
        # What is no text becomes a line that does not parse.
        text = read_bytes(path).decode(errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}.", "Check its permissions.") from error
    return text.split("\n")[:-1]


def _parse(line: str, path: Path) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    if not (isinstance(entry, dict) and _is_entry(entry)):
        raise ArtefactError(
            f"{path} is damaged, or not the log of a training run: it holds the line {line[:40]!r}.",
            "Delete that line, or the whole file.",
        )
    return entry


def _is_entry(entry: dict[str, Any]) -> bool:
    text = isinstance(entry.get("kind"), str) and isinstance(entry.get("time"), str)
    numbers = [value for name, value in entry.items() if name not in ("kind", "time")]
    return text and type(entry.get("step")) is int and all(type(n) in (int, float, type(None)) for n in numbers)
