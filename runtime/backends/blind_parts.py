"""The two parts of an exported blind network: what estimates the blur kernel, and what is given it."""

from pathlib import Path

import numpy as np

from drc_deploy.engine_info import (
    INPUT_NAME,
    KERNEL_NAME,
    KERNEL_PLAN_SUFFIX,
    KERNEL_SUFFIX,
    OUTPUT_NAME,
    RESTORER_PLAN_SUFFIX,
    RESTORER_SUFFIX,
    EngineInfo,
)
from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.graph_backend import GraphBackend
from drc_deploy.runtime.backends.ort.backend import OnnxSessions, read_info
from drc_deploy.runtime.backends.trt.backend import at_shape, check_tensors
from drc_deploy.runtime.backends.trt.runner import PlanRunner

_AGAIN = "Make both with `drc-deploy export CHECKPOINT`."
_OF_ESTIMATOR, _OF_RESTORER = ([INPUT_NAME], [KERNEL_NAME]), ([INPUT_NAME, KERNEL_NAME], [OUTPUT_NAME])
"""Inputs and outputs."""

Names = tuple[list[str], list[str]]


def open_blind_parts(estimator: Path, restorer: Path, *, threads: int | None = None) -> GraphBackend:
    """Load both parts of a blind network, ``.onnx`` or ``.plan`` files, as one; see ``open_backend``.

    By itself it estimates one kernel for each batch; see ``Backend.with_kernel``.

    Raises:
        ArtefactError: also where they are not the parts of one network.
    """
    if restorer.suffix == ".plan":
        return _open_plans(estimator, restorer)
    sessions = OnnxSessions(restorer, threads=threads)
    info = read_info(sessions.session, restorer)
    side = _kernel_side(info, restorer)
    inputs, outputs = (
        [value.name for value in values] for values in (sessions.session.get_inputs(), sessions.session.get_outputs())
    )
    _check_names(restorer, (inputs, outputs), _OF_RESTORER)
    finder = OnnxSessions(estimator, threads=threads)
    _check_same(info, read_info(finder.session, estimator), estimator)
    sessions.smallest_px = finder.smallest_px = info.taken_side(1)
    sessions.for_smallest = {KERNEL_NAME: np.zeros((1, 1, side, side), np.float32)}
    backend = GraphBackend(sessions, info, finder)
    if sessions.on_cpu:
        backend.use_batch(1)  # more only cost memory
    return backend


def open_restorer(path: Path) -> GraphBackend:
    """Load ``NAME.restorer.onnx`` or ``.plan`` with the estimator next to it; see ``open_blind_parts``."""
    is_plan = path.suffix == ".plan"
    own, other = (RESTORER_PLAN_SUFFIX, KERNEL_PLAN_SUFFIX) if is_plan else (RESTORER_SUFFIX, KERNEL_SUFFIX)
    return open_blind_parts(path.with_name(path.name.removesuffix(own) + other), path)


def _open_plans(estimator: Path, restorer: Path) -> GraphBackend:
    runners: list[PlanRunner] = []
    try:
        infos = []
        for path, names in ((restorer, _OF_RESTORER), (estimator, _OF_ESTIMATOR)):
            runner = PlanRunner(path)
            runners.append(runner)
            if runner.sidecar is None:
                raise ArtefactError(f"{path} has no sidecar.", _AGAIN)
            _check_names(path, (list(runner.inputs), list(runner.outputs)), names)
            _, height, width, _ = runner.inputs[INPUT_NAME].shape
            infos.append(at_shape(runner.sidecar.engine, (height, width), path))
        _kernel_side(infos[0], restorer)
        _check_same(infos[0], infos[1], estimator)
        check_tensors(runners[0], infos[0], restorer)
        return GraphBackend(runners[0], infos[0], runners[1])
    except ArtefactError:
        for runner in runners:
            runner.close()
        raise


def _kernel_side(info: EngineInfo, path: Path) -> int:
    if info.kernel_size is None:
        raise ArtefactError(f"{path} is of a network that is not blind.", _AGAIN)
    return info.kernel_size


def _check_names(path: Path, found: Names, expected: Names) -> None:
    """Refuse another graph; TensorRT keeps no order of names."""
    if [sorted(names) for names in found] != [sorted(names) for names in expected]:
        raise ArtefactError(f"{path} takes {', '.join(found[0])} and gives {', '.join(found[1])}.", _AGAIN)


def _check_same(info: EngineInfo, other: EngineInfo, path: Path) -> None:
    if (other.checkpoint_sha256, other.tile, other.max_batch) != (info.checkpoint_sha256, info.tile, info.max_batch):
        raise ArtefactError(f"{path} is of another checkpoint, or another export, than its other part.", _AGAIN)
