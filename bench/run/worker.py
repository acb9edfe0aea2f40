"""One process per engine: its memory and its threads are its own, and its crash ends nothing else.

The parent holds an ``EngineProcess`` and asks; the child holds a ``Session`` and answers. Between them travel
arrays, frozen records and errors.
"""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from drc_deploy.bench.machine.memory import DeviceMemory, Reading, peak_host_memory, used_bytes
from drc_deploy.bench.measure.engine_timing import EngineRound, EngineTimer, StreamRound, Workload
from drc_deploy.bench.measure.fidelity import SeamError, measure_seam
from drc_deploy.bench.measure.layer_times import LayerProfile, profile_layers
from drc_deploy.bench.measure.timing import Round, TimingBudget, WarmUp, time_runs, warm_up
from drc_deploy.bench.programs.program_backend import ProgramBackend
from drc_deploy.engine_info import EngineInfo, Precision
from drc_deploy.errors import ArtefactError, DrcDeployError
from drc_deploy.interruption import leave_signals_to_parent, start_child
from drc_deploy.metrics import UInt8Image
from drc_deploy.runtime.backends.contract import GpuMemory, Pixels
from drc_deploy.runtime.upscaler import Upscaler

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

OpenEngine = Callable[[], Upscaler]
"""Loads an engine inside the child, so it must be picklable."""

CLOSE_TIMEOUT_S = 2.0
"""An engine that is in the middle of a round when the run is stopped is not waited for."""
DEATH_TIMEOUT_S = 10.0
"""How long a process that broke off the connection may take to end."""


def open_file(path: Path, threads: int | None, precision: Precision | None = None) -> OpenEngine:
    """Return what loads an engine file as ``drc-deploy upscale`` does; ``precision`` is for checkpoints."""
    return partial(Upscaler.open, path, threads=threads, precision=precision)


@dataclass(frozen=True, slots=True)
class Opened:
    """What loading gave."""

    info: EngineInfo
    device: str
    load_ms: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Peaks so far."""

    host: Reading
    device: Reading
    system_growth: int | None
    """Bytes that the whole system uses more than before; None where that is unknown."""
    plan: GpuMemory | None
    """What a plan says that it takes."""


class Session:
    """The child's side: one engine and the questions about it."""

    def __init__(self, open_engine: OpenEngine) -> None:
        self._device_memory, self._system_memory = DeviceMemory(), DeviceMemory(used_bytes)
        self._calls, self._turn = 1, 0
        self._timer: EngineTimer | None = None
        with self._device_memory.watch(), self._system_memory.watch():
            start = time.perf_counter_ns()
            self._engine = open_engine()
            self._load_ms = (time.perf_counter_ns() - start) / 1e6
        backend = self._engine.backend
        self._program = backend if isinstance(backend, ProgramBackend) else None

    def describe(self) -> Opened:
        """Return what was loaded."""
        return Opened(self._engine.info, self._engine.device, self._load_ms)

    def warm_up(self, images: Sequence[UInt8Image]) -> WarmUp:
        """Run until the latency is stable."""
        with self._device_memory.watch(), self._system_memory.watch():
            found = warm_up(lambda: self._upscale_next(images))
        self._calls = found.calls_per_run
        return found

    def measure(self, images: Sequence[UInt8Image], budget: TimingBudget) -> Round:
        """Time one round; the images, all of one size, take turns."""
        self._upscale_next(images)  # not timed: another engine has had the caches in between
        budget = replace(budget, calls=self._calls)
        if self._program is not None:
            self._turn += 1
            return self._program.time(self._engine, images[self._turn % len(images)], budget)
        return time_runs(lambda: self._upscale_next(images), budget)

    def _upscale_next(self, images: Sequence[UInt8Image]) -> None:
        self._turn += 1
        self._engine(images[self._turn % len(images)])

    def prepare_engine(self, images: Sequence[UInt8Image]) -> Workload:
        """Get ready to time the network alone on the images."""
        self._timer = EngineTimer(self._engine.backend, images, self._engine.plan(*images[0].shape[:2]))
        return self._timer.describe()

    def measure_engine(self, budget: TimingBudget) -> EngineRound:
        """Time one round of the network alone, after ``prepare_engine``."""
        assert self._timer is not None
        return self._timer.measure(budget)

    def stream(self, min_seconds: float) -> tuple[StreamRound, int]:
        """Time a stream of images, after ``prepare_engine``; give also how many batches were computed at a time."""
        assert self._timer is not None
        return self._timer.stream(min_seconds), self._engine.backend.workers

    def seam(self, image: UInt8Image) -> SeamError:
        """Return what tiles change in an image."""
        backend = self._engine.backend
        with contextlib.suppress(ArtefactError):  # tiles of a blind network share a kernel where its parts are there
            backend = self._engine.networks.with_kernels()
        return measure_seam(backend, image)

    def upscale(self, image: UInt8Image) -> UInt8Image:
        """Return the result for an image."""
        return self._engine(image)

    def kernel(self, image: UInt8Image) -> Pixels | None:
        """Return the blur kernel that a blind network finds; see ``Upscaler.kernel``."""
        return self._engine.kernel(image)

    def settings(self) -> dict[str, str]:
        """Return how another program is set; nothing for our own engines."""
        return self._program.settings if self._program else {}

    def memory(self) -> Memory:
        """Report the peaks so far."""
        device = self._device_memory.read(self._engine.device)
        return Memory(peak_host_memory(), device, self._system_memory.growth, self._engine.backend.gpu_memory)

    def profile_layers(self, path: Path, image: UInt8Image, threads: int | None) -> LayerProfile:
        """Report the time of the layers of this engine, whose file is ``path``."""
        return profile_layers(path, self._engine.backend, image, threads)


class EngineProcess:
    """The parent's side of one engine."""

    def __init__(self, open_engine: OpenEngine, limit_s: float | None = None) -> None:
        """Start the child, which may take ``limit_s`` over all that it is asked, and load the engine in it.

        Raises:
            DrcDeployError: what loading raised, or that the child ended or took too long.
        """
        # Not fork: the child must not inherit the parent's memory, threads or CUDA context.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, open_engine), daemon=True)
        self._limit_s, self._used_s = limit_s, 0.0
        try:
            with theirs:
                start_child(self._process)
            self._receive()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._process.pid or 0

    def ask(
        self,
        question: Callable[Concatenate[Session, Arguments], Answer],
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Answer:
        """Let the child call a method of its ``Session`` and wait: ``ask(Session.measure, image, budget)``.

        Raises:
            DrcDeployError: what the method raised, or that the child ended or took too long.
        """
        try:
            self._connection.send((question.__name__, arguments, options))
        except OSError as error:
            raise self._ended() from error
        answer: Answer = self._receive()
        return answer

    def close(self) -> None:
        """End the child."""
        self._connection.close()
        if self._process.pid is None:  # the machine could not start it
            return
        self._process.join(CLOSE_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _receive(self) -> Any:
        """Wait for an answer, or the end of the child, as long as the limit allows."""
        start = time.monotonic()
        left_s = None if self._limit_s is None else max(self._limit_s - self._used_s, 0.0)
        if not self._connection.poll(left_s):
            raise DrcDeployError(f"it took longer than {self._limit_s:g} s in all.", "Allow more with --case-seconds.")
        self._used_s += time.monotonic() - start
        try:
            answer, failure = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if failure is not None:
            raise failure
        return answer

    def _ended(self) -> DrcDeployError:
        self._process.join(DEATH_TIMEOUT_S)
        code = self._process.exitcode or 0
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return DrcDeployError(f"the engine's process ended with {how}.", "Memory may have run out.")


StartProcess = Callable[[OpenEngine, float | None], EngineProcess]
"""Starts an engine, with the most seconds that it may take; ``EngineProcess`` itself but in tests."""


def _serve(connection: Connection, open_engine: OpenEngine) -> None:
    """Answer questions until the parent closes the connection."""
    leave_signals_to_parent()  # which then closes the connection
    os.dup2(2, 1)  # native libraries print to standard output, which belongs to the parent's result
    with contextlib.suppress(EOFError, OSError):
        session, failure = attempt(lambda: Session(open_engine))
        connection.send((None, failure))
        while failure is None:
            question, arguments, options = connection.recv()
            connection.send(attempt(partial(getattr(session, question), *arguments, **options)))


def attempt(action: Callable[[], Any]) -> tuple[Any, DrcDeployError | None]:
    """Return the result of ``action``, or the error that travels to the parent instead."""
    try:
        return action(), None
    except DrcDeployError as error:
        return None, error
    except Exception as error:  # an engine may raise anything; the parent shows it in the engine's row
        return None, DrcDeployError(f"{type(error).__name__}: {error}")
