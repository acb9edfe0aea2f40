"""The two parts of an exported blind network: what estimates the blur kernel, and what is given it."""

import dataclasses
from pathlib import Path

import numpy as np

from drc_deploy.engine_info import (
    INPUT_NAME,
    KERNEL_NAME,
    OUTPUT_NAME,
    EngineInfo,
    blind_parts,
)
from drc_deploy.errors import ArtefactError
from drc_deploy.input_files import why_not
from drc_deploy.runtime.backends.graph_backend import GraphBackend, GraphRunner
from drc_deploy.runtime.backends.ort.backend import OnnxSessions, read_info
from drc_deploy.runtime.backends.trt.backend import at_shape, check_tensors
from drc_deploy.runtime.backends.trt.runner import PlanRunner

_AGAIN = "Make both with `drc-deploy export CHECKPOINT`."
_OF_ESTIMATOR, _OF_RESTORER = ([INPUT_NAME], [KERNEL_NAME]), ([INPUT_NAME, KERNEL_NAME], [OUTPUT_NAME])
"""Inputs and outputs."""

Names = tuple[list[str], list[str]]


def open_blind_parts(
    estimator: Path, restorer: Path, *, threads: int | None = None, cpu_only: bool = False
) -> GraphBackend:
    """Load both parts of a blind network, ``.onnx`` or ``.plan`` files, as one; see ``open_backend``.

    By itself it estimates one kernel for each batch; see ``Backend.with_kernel``. ``cpu_only`` leaves a GPU alone,
    which plans cannot.

    Raises:
        ArtefactError: also where they are not the parts of one network.
    """
    runner, info = (
        _open_plan(restorer, _OF_RESTORER)
        if restorer.suffix == ".plan"
        else _open_onnx(restorer, _OF_RESTORER, threads=threads, cpu_only=cpu_only)
    )
    try:
        if info.kernel_size is None:
            raise ArtefactError(f"{restorer} is of a network that is not blind.", _AGAIN)
        if isinstance(runner, PlanRunner):
            check_tensors(runner, info, restorer)
        else:
            runner.for_smallest = {KERNEL_NAME: np.zeros((1, 1, info.kernel_size, info.kernel_size), np.float32)}
        finder, batch = open_estimator(estimator, info, threads=threads, cpu_only=cpu_only)
    except ArtefactError:
        runner.close()
        raise
    backend = GraphBackend(runner, dataclasses.replace(info, max_batch=min(info.max_batch, batch)), finder)
    if isinstance(runner, OnnxSessions) and runner.on_cpu:
        backend.use_batch(1)  # more only cost memory
    return backend


def open_estimator(
    path: Path, info: EngineInfo, *, threads: int | None = None, cpu_only: bool = False
) -> tuple[GraphRunner, int]:
    """Load the estimator for the network that ``info`` describes, and return it and its largest batch.

    Raises:
        ArtefactError: it is missing, or of another checkpoint or tile.
    """
    if why := why_not(path):
        raise ArtefactError(f"{path}, which finds the blur of images, {why}.", _AGAIN)
    runner, found = (
        _open_plan(path, _OF_ESTIMATOR)
        if path.suffix == ".plan"
        else _open_onnx(path, _OF_ESTIMATOR, threads=threads, cpu_only=cpu_only)
    )
    if (found.checkpoint_sha256, found.tile) != (info.checkpoint_sha256, info.tile):
        runner.close()
        raise ArtefactError(f"{path} is of another checkpoint, or another export, than its other part.", _AGAIN)
    return runner, found.max_batch


def _open_onnx(path: Path, names: Names, *, threads: int | None, cpu_only: bool) -> tuple[OnnxSessions, EngineInfo]:
    sessions = OnnxSessions(path, threads=threads, cpu_only=cpu_only)
    values = sessions.session.get_inputs(), sessions.session.get_outputs()
    _check_names(path, ([value.name for value in values[0]], [value.name for value in values[1]]), names)
    info = read_info(sessions.session, path)
    sessions.smallest_px = info.taken_side(1)
    return sessions, info


def _open_plan(path: Path, names: Names) -> tuple[PlanRunner, EngineInfo]:
    runner = PlanRunner(path)
    try:
        if runner.sidecar is None:
            raise ArtefactError(f"{path} has no sidecar.", _AGAIN)
        _check_names(path, (list(runner.inputs), list(runner.outputs)), names)
        _, height, width, _ = runner.inputs[INPUT_NAME].shape
        info = at_shape(runner.sidecar.engine, (height, width), path)
        # Of what fits into the memory of the GPU.
        return runner, dataclasses.replace(info, max_batch=runner.memory.batch)
    except ArtefactError:
        runner.close()
        raise


def open_restorer(path: Path) -> GraphBackend:
    """Load ``NAME.restorer.onnx`` or ``.plan`` with the estimator next to it; see ``open_blind_parts``."""
    whole = path.with_suffix("").with_suffix(path.suffix)
    return open_blind_parts(blind_parts(whole)[0], path)


def _check_names(path: Path, found: Names, expected: Names) -> None:
    """Refuse another graph; TensorRT keeps no order of names."""
    if [sorted(names) for names in found] != [sorted(names) for names in expected]:
        raise ArtefactError(f"{path} takes {', '.join(found[0])} and gives {', '.join(found[1])}.", _AGAIN)
