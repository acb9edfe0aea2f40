"""The networks next to an engine that serve it: for 16 bits, exact tiles, blur kernels, and overflows in FP16."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from drc_deploy.engine_info import (
    EXACT_PLAN_SUFFIX,
    EXACT_SUFFIX,
    FLOAT_SUFFIX,
    EngineInfo,
    Precision,
    blind_parts,
    read_sidecar,
)
from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.blind_parts import open_blind_parts
from drc_deploy.runtime.backends.contract import Backend
from drc_deploy.runtime.backends.open import open_backend, refuse_precision
from drc_deploy.runtime.loaded_file import LoadedFile
from drc_deploy.runtime.tiling.exact import ExactBackend, open_exact

_log = logging.getLogger(__name__)


def open_float_variant(path: Path, info: EngineInfo, threads: int | None) -> Backend:
    """Open the float32 network that export wrote next to the 8-bit ``path``, which ``info`` describes, with a note."""
    variant = _onnx_of(path).with_suffix(FLOAT_SUFFIX)
    if not variant.is_file():
        raise ArtefactError(
            f"{path} takes 8-bit samples, the image has 16, and {variant} does not exist.",
            "Make it with `drc-deploy export CHECKPOINT`, which writes both.",
        )
    backend = open_backend(variant, threads=threads)
    if backend.info.io_dtype != "float32":
        backend.close()
        raise ArtefactError(f"{variant} takes 8-bit samples too.", "Make it again with `drc-deploy export`.")
    _checked(backend, variant, info, path)
    _log.warning("16-bit image: using %s, for %s takes 8-bit samples.", variant, path)
    return backend


def _onnx_of(path: Path) -> Path:
    """Return the ONNX of an engine: the file itself, or the one next to it, which may be missing."""
    sidecar = read_sidecar(path) if path.suffix == ".plan" else None
    return path.with_name(sidecar.onnx_file) if sidecar else path.with_suffix(".onnx")


def open_exact_variant(path: Path, *, threads: int | None, precision: Precision | None) -> Backend:
    """Open the network that takes the means of the whole image; the network itself where it takes no such means."""
    if path.suffix == ".safetensors":
        return _open_exact_checkpoint(path, threads, precision or "fp32")
    refuse_precision(path, precision)
    sidecar = read_sidecar(path) if path.suffix == ".plan" else None
    exact_plan = path.with_suffix(EXACT_PLAN_SUFFIX)
    if sidecar is not None and exact_plan.is_file():
        return _checked(open_exact(exact_plan), exact_plan, sidecar.engine, path)
    onnx = _onnx_of(path)  # of a plan too, where it has no exact plan
    variant = onnx.with_suffix(EXACT_SUFFIX)
    backend = open_backend(onnx, threads=threads)
    if not backend.info.global_operations:
        return backend
    backend.close()
    if not variant.is_file():
        raise ArtefactError(
            f"{variant} does not exist, which exact tiles need.",
            "Make it with `drc-deploy export CHECKPOINT --exact`; of networks of other programs none can be made.",
        )
    return _checked(open_exact(variant, threads=threads), variant, backend.info, onnx)


def _open_exact_checkpoint(path: Path, threads: int | None, precision: Precision) -> Backend:
    backend = open_backend(path, threads=threads, precision=precision)
    if not backend.info.global_operations:
        return backend
    from drc_deploy.runtime.backends.pytorch.backend import TorchBackend
    from drc_deploy.runtime.tiling.exact_torch import exact_backend

    assert isinstance(backend, TorchBackend)
    return exact_backend(backend.network, backend.workers)


def parts_opener(path: Path, backend: Backend, threads: int | None) -> Callable[[bool], Backend] | None:
    """Return a function that opens the parts of an exported blind network, on the CPU where it is called with True.

    None where the network is not blind, or takes kernels itself. Opening them raises ArtefactError where they are
    missing, or of another checkpoint or tile.
    """
    if backend.info.kernel_size is None or path.suffix == ".safetensors" or isinstance(backend, ExactBackend):
        return None

    def open_parts(cpu_only: bool) -> Backend:
        estimator, restorer = blind_parts(path)
        if cpu_only or not restorer.is_file():  # of a plan too, where its parts have no plans
            estimator, restorer = blind_parts(_onnx_of(path))
        for part in (estimator, restorer):
            if not part.is_file():
                raise ArtefactError(
                    f"{part} does not exist, which is needed for more than one tile, 16 bits, alpha and known kernels.",
                    "Make it with `drc-deploy export CHECKPOINT`.",
                )
        opened = open_blind_parts(estimator, restorer, threads=threads, cpu_only=cpu_only)
        parts = _checked(opened, restorer, backend.info, path)
        if parts.info.tile not in (None, backend.info.tile):
            parts.close()
            raise ArtefactError(f"{restorer} takes other tiles than {path}.", "Export again: all files come of one.")
        return parts

    return open_parts


def _checked(backend: Backend, file: Path, info: EngineInfo, served: Path) -> Backend:
    """Return a network from ``file`` that serves ``served``, which ``info`` is about; close and refuse another one."""
    unknown = not info.checkpoint_sha256  # a plan that lost its sidecar
    if backend.info.scale != info.scale or not (unknown or backend.info.checkpoint_sha256 == info.checkpoint_sha256):
        backend.close()
        option = " --exact" if file.name.endswith((EXACT_SUFFIX, EXACT_PLAN_SUFFIX)) else ""
        raise ArtefactError(
            f"{file} was made from another checkpoint than {served}.",
            f"Make both with `drc-deploy export CHECKPOINT{option}`.",
        )
    return backend


def float32_opener(path: Path, backend: Backend, threads: int | None) -> Callable[[], Backend] | None:
    """Return a function that opens the same network in float32; None where there is none.

    That is the checkpoint itself, or the ONNX on the CPU, which computes in float32 whatever the graph's precision.
    Opening it raises ArtefactError where the file has been replaced since.
    """
    if path.suffix == ".safetensors":
        return partial(LoadedFile(path).load, partial(open_backend, path, threads=threads))
    onnx = _onnx_of(path)
    if path.suffix not in (".onnx", ".plan") or not onnx.is_file() or "CPU" in backend.device:
        return None

    def open_cpu() -> Backend:
        from drc_deploy.runtime.backends.ort.backend import OnnxRuntimeBackend

        return _checked(OnnxRuntimeBackend(onnx, threads=threads, cpu_only=True), onnx, backend.info, path)

    return partial(LoadedFile(onnx).load, open_cpu)
