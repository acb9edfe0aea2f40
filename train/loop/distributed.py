"""Several processes that train one network: as many as ``torchrun`` starts, each with its share of every batch.

Without ``torchrun`` there is one process, and everything here is that plain case.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed

from drc_deploy.errors import TrainingError, UsageError

PATIENCE = timedelta(hours=2)
"""How long processes wait for one that validates or measures."""


def rank() -> int:
    """Return this process's number; 0 writes the files and talks to the user."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Return whether this process writes the files and talks to the user."""
    return rank() == 0


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes that ``torchrun`` started, if it did, and leave them at the end."""
    if "WORLD_SIZE" not in os.environ or "MASTER_ADDR" not in os.environ:
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Both: flags are exchanged on the host, where they do not make it wait for the GPU.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Wait until every process is here."""
    if distributed.is_initialized():
        distributed.barrier()


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean of each process's ``values``; the same everywhere."""
    if not distributed.is_initialized():
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total / world_size()


def of_main(value: float) -> float:
    """Return the ``value`` of the process that writes the files."""
    if not distributed.is_initialized():
        return value
    values = torch.tensor([value], dtype=torch.float64)
    distributed.broadcast(values, src=0)
    return float(values)


def in_any_process(flag: bool) -> bool:
    """Return whether ``flag`` is set in any process; the answer is the same everywhere."""
    if not distributed.is_initialized():
        return flag
    flags = torch.tensor([flag], dtype=torch.uint8)
    distributed.all_reduce(flags, distributed.ReduceOp.MAX)
    return bool(flags)


def check_same_step(step: int) -> None:
    """Check that all processes go on from the same step.

    Raises:
        TrainingError: they do not.
    """
    if not distributed.is_initialized():
        return
    steps = torch.tensor([step, -step])
    distributed.all_reduce(steps, distributed.ReduceOp.MAX)
    highest, lowest = int(steps[0]), -int(steps[1])
    if highest != lowest:
        raise TrainingError(
            f"some processes go on from step {highest} and others from step {lowest}.",
            "Give an --output or --workdir that all machines see.",
        )


def check_divisible(batch: int) -> None:
    """Check that a batch can be divided among the processes.

    Raises:
        UsageError: it cannot.
    """
    if batch % world_size():
        raise UsageError(
            f"a batch of {batch} patches cannot be divided among {world_size()} processes.",
            f"Give a --batch that is a multiple of {world_size()}.",
        )
