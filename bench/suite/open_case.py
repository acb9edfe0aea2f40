"""Opens an engine as a case says, inside the child process, whose memory is measured: so this imports little."""

from pathlib import Path

from drc_deploy.bench.report.records import Case
from drc_deploy.runtime.backends.contract import Backend
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.runtime.upscaler import Upscaler


def open_case(path: Path, threads: int | None, case: Case) -> Upscaler:
    """Load an engine file with the provider, tile, batch and precision of a case.

    A case that asks for nothing special is opened as `upscale` does.
    """
    if case.batch is None and case.backend == "default":
        return Upscaler.open(path, tile=case.tile, threads=threads, precision=case.precision)
    if case.backend == "cpu":
        from drc_deploy.runtime.backends.ort.backend import OnnxRuntimeBackend

        backend: Backend = OnnxRuntimeBackend(path, threads=threads, cpu_only=True)
    else:
        backend = open_backend(path, threads=threads, precision=case.precision)
    if case.batch is not None:
        backend.use_batch(case.batch)
    return Upscaler(backend, tile=case.tile)
