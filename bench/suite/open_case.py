"""Opens an engine as a case says, inside the child process."""

from dataclasses import dataclass
from pathlib import Path

from drc_deploy.bench.report.records import Case
from drc_deploy.runtime.backends.contract import Backend
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.runtime.upscaler import Upscaler


@dataclass(frozen=True, slots=True)
class OpenCase:
    """Loads an engine file with the provider, tile, batch and precision of a case."""

    path: Path
    threads: int | None
    case: Case

    def __call__(self) -> Upscaler:
        """Load it; a case that asks for nothing special is opened as `upscale` does."""
        case = self.case
        if case.batch is None and case.backend == "default":
            return Upscaler.open(self.path, tile=case.tile, threads=self.threads, precision=case.precision)
        backend = self._open_backend()
        if case.batch is not None:
            backend.use_batch(case.batch)
        return Upscaler(backend, tile=case.tile)

    def _open_backend(self) -> Backend:
        if self.case.backend == "default":
            return open_backend(self.path, threads=self.threads, precision=self.case.precision)
        from drc_deploy.runtime.backends.ort.backend import OnnxRuntimeBackend

        return OnnxRuntimeBackend(self.path, threads=self.threads, cpu_only=True)
