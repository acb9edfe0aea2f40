"""Messages, errors and progress of a TensorRT build while it runs.

The base classes belong to whichever binding is used, so each class is made inside a function.
"""

import threading
from dataclasses import dataclass, field
from typing import Any

from drc_deploy.progress import Progress

NOT_SELF_CONSISTENT = "not self-consistent"
"""Of a profile's shapes: TensorRT builds all the same, and the engine then computes only one size rightly."""

LONGEST_TEXT = 800


@dataclass(slots=True)
class BuildLog:
    """Messages of a build, and whether it is to stop."""

    errors: list[str] = field(default_factory=list)
    """In the library's own words, in order."""
    remarks: list[str] = field(default_factory=list)
    """Messages that do not spoil a plan, but explain why there is none: among them failed allocations, after which
    TensorRT skips the kernel that wanted too much memory and goes on with others."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set to stop the build at its next step."""

    def words(self) -> str:
        """Return the errors, or else the remarks, as one line of bounded length, none of them twice."""
        messages = dict.fromkeys(" ".join(message.split()) for message in self.errors or self.remarks)
        text = "; ".join(messages) or "it gave no reason"
        return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " ..."


def make_logger(trt: Any, log: BuildLog) -> Any:
    """Return an ``ILogger`` that keeps the warnings that are really errors; the recorder has the errors."""
    base: Any = trt.ILogger

    class _Logger(base):  # type: ignore[misc]
        def log(self, severity: Any, message: str) -> None:
            if NOT_SELF_CONSISTENT in message:
                log.errors.append(message)
            elif severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                log.remarks.append(message)

    return _Logger()


def make_recorder(trt: Any, log: BuildLog) -> Any:
    """Return an ``IErrorRecorder`` that writes into ``log``."""
    base: Any = trt.IErrorRecorder

    class _Recorder(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)
            self._entries: list[tuple[Any, str]] = []

        def num_errors(self) -> int:
            return len(self._entries)

        def get_error_code(self, index: int) -> Any:
            return self._entries[index][0]

        def get_error_desc(self, index: int) -> str:
            return self._entries[index][1]

        def has_overflowed(self) -> bool:
            return False

        def clear(self) -> None:
            self._entries.clear()

        def report_error(self, code: Any, description: str) -> bool:
            self._entries.append((code, description))
            allocation = code == trt.ErrorCodeTRT.FAILED_ALLOCATION
            (log.remarks if allocation else log.errors).append(description)
            return False

    return _Recorder()


def make_monitor(trt: Any, log: BuildLog, bar: Progress) -> Any | None:
    """Return an ``IProgressMonitor`` that moves ``bar`` and stops a cancelled build; None in TensorRT 8."""
    base: Any = getattr(trt, "IProgressMonitor", None)
    if base is None:
        return None

    class _Monitor(base):  # type: ignore[misc]
        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            bar.advance(0, phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not log.cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            """TensorRT calls it; the next phase's name follows at once."""

    return _Monitor()
