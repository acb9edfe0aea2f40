"""The journal of a run: one JSON object a line for programs, and TensorBoard for people.

Torch is not needed, so that ``drc-deploy plot`` starts at once.
"""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from drc_deploy.errors import ArtefactError
from drc_deploy.files import write_text
from drc_deploy.locate import CHECKPOINT_SUFFIX
from drc_deploy.metrics import UInt8Image
from drc_deploy.train.loop.event_file import EventFile, GrowingFile

RUN_SUFFIX = ".run"
LOG_FILE = "log.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
_WHICH_FOLDER = f"Give the folder that `drc-deploy train` makes next to its result (NAME{RUN_SUFFIX})."


class Journal:
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

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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


def _open_events(folder: Path, step: int) -> EventFile | None:
    try:
        return EventFile(folder, step=step)
    except ModuleNotFoundError:
        hint = "pip install 'drc-deploy[train]' brings it"
        sys.stderr.write(f"TensorBoard is not installed ({hint}): this run is written to {LOG_FILE} alone.\n")
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
    raise ArtefactError(
        f"there is no run {reference!r}, here or in {workdir}.",
        _WHICH_FOLDER,
    )


def _whole_lines(path: Path) -> list[str]:
    """Return the lines that end in a line break, or none when there is no file.

    Raises:
        ArtefactError: the file cannot be read.
    """
    try:
        # What is no text becomes a line that does not parse.
        text = path.read_bytes().decode(errors="replace")
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
