"""The engine of a command that names none."""

import importlib.util
from pathlib import Path

from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.locate import CHECKPOINT_SUFFIX, ENGINE_SUFFIXES, SHIPPED

FOR_CPU, FOR_GPU = "drn_xs", "drn_s"
"""Shipped networks: the first is fast enough for a CPU, the second makes better images and needs a GPU."""


def choose_engine(workdir: Path) -> tuple[Path, str]:
    """Return the newest engine in ``workdir``, or a shipped network where there is none, and a sentence that says why.

    Raises:
        ArtefactError: ``workdir`` holds networks, but none that this machine can run as it is.
        MissingDependencyError: a shipped network is needed, and torch, which runs it, is not installed.
    """
    from drc_deploy.runtime.jobs.plan import newest_engine

    try:
        path = newest_engine(workdir)
    except ArtefactError:
        if any(path.suffix in ENGINE_SUFFIXES for path in workdir.glob("*")):
            raise
        return _shipped_engine()
    return path, f"Using the newest engine: {path}"


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
