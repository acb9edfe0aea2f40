"""Opens an engine as a case says, inside the child process."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.bench.measure.engine import Engine
from drc_deploy.bench.report.records import Case
from drc_deploy.engine_info import EngineInfo
from drc_deploy.runtime.backends.contract import Backend, DeviceTimes, GpuMemory, LayerRun, Pixels
from drc_deploy.runtime.backends.open import open_backend


@dataclass(frozen=True, slots=True)
class OpenCase:
    """Loads an engine file with the provider, tile, batch and precision of a case."""

    path: Path
    threads: int | None
    case: Case

    def __call__(self) -> Engine:
        """Load it; a case that asks for nothing special is opened as `upscale` does."""
        from drc_deploy.runtime.upscaler import Upscaler

        case = self.case
        if case.batch is None and case.backend == "default":
            return Upscaler.open(self.path, tile=case.tile, threads=self.threads, precision=case.precision)
        backend = self._open_backend()
        batched = backend if case.batch is None else _Batches(backend, case.batch)
        return Upscaler(batched, tile=case.tile)

    def _open_backend(self) -> Backend:
        if self.case.backend == "default":
            return open_backend(self.path, threads=self.threads, precision=self.case.precision)
        from drc_deploy.runtime.backends.ort.backend import OnnxRuntimeBackend

        return OnnxRuntimeBackend(self.path, threads=self.threads, cpu_only=True)


class _Batches(Backend):
    """Another backend in everything, but that it asks for batches of a given size."""

    def __init__(self, backend: Backend, batch: int) -> None:
        self._backend, self._batch = backend, batch

    @property
    def info(self) -> EngineInfo:
        return self._backend.info

    @property
    def device(self) -> str:
        return self._backend.device

    @property
    def preferred_batch(self) -> int:
        return self._batch

    @property
    def workers(self) -> int:
        return self._backend.workers

    def use_workers(self, count: int) -> None:
        self._backend.use_workers(count)

    def give_back(self) -> None:
        self._backend.give_back()

    @property
    def gpu_memory(self) -> GpuMemory | None:
        return self._backend.gpu_memory

    @property
    def device_times(self) -> DeviceTimes | None:
        return self._backend.device_times

    def time_layers(self, batch: Pixels, runs: int) -> list[list[LayerRun]] | None:
        return self._backend.time_layers(batch, runs)

    def run(self, batch: Pixels) -> Pixels:
        return self._backend.run(batch)

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        return self._backend.stream(batches)

    def close(self) -> None:
        self._backend.close()
