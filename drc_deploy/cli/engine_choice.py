"""The engine of a command that names none."""

import importlib.util
from pathlib import Path

from drc_deploy.engine_info import is_own_engine
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.locate import CHECKPOINT_SUFFIX, ENGINE_SUFFIXES, SHIPPED, shipped_names
from drc_deploy.runtime.backends.trt.gpu_memory import has_cuda_driver

FOR_CPU, FOR_GPU = "drn_xs", "drn_s"
"""Shipped networks: the first is fast enough for a CPU, the second makes better images and needs a GPU."""


def choose_engine(workdir: Path) -> tuple[Path, str]:
    """Return the newest engine in ``workdir``, or a shipped network where there is none, and a sentence that says why.

    Raises:
        ArtefactError: ``workdir`` holds networks, but none that this machine can run as it is.
        MissingDependencyError: a shipped network is needed, and torch, which runs it, is not installed.
    """
    files = list(workdir.glob("*"))
    suffixes = (".plan", ".onnx") if has_cuda_driver() else (".onnx",)  # plans need an NVIDIA driver
    if engines := [path for path in files if path.suffix in suffixes and is_own_engine(path)]:
        path = max(engines, key=lambda path: (path.stat().st_mtime_ns, path.name))
        return path, f"Using the newest engine: {path}"
    if any(path.suffix in ENGINE_SUFFIXES for path in files):
        raise ArtefactError(
            f"there is no engine in {workdir} that this machine can run.",
            f"Give --engine: a .plan, an .onnx, a checkpoint, or one of {', '.join(shipped_names())}.",
        )
    return _shipped_engine()


def _shipped_engine() -> tuple[Path, str]:
    if importlib.util.find_spec("torch") is None:
        raise MissingDependencyError(
            "no engine was named, and the networks that ship with drc-deploy need torch, which is not installed.",
            "Install it: pip install 'drc-deploy[train]'. Or export a network where torch is, copy it here and name "
            "it with --engine.",
        )
    import torch

    name, machine = FOR_CPU, "a CPU"
    if torch.cuda.is_available():
        name, machine = FOR_GPU, torch.cuda.get_device_name()
    why = f"Using {name}, the shipped network for {machine}. Choose another with --engine (see `drc-deploy models`)."
    return SHIPPED / f"{name}{CHECKPOINT_SUFFIX}", why
