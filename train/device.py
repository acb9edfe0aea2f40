"""Where training runs, and in which memory layout."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from drc_deploy.errors import TrainingError
from drc_deploy.models.network import lay_channels_last
from drc_deploy.torch_gpu import compute_in_float32

Module = TypeVar("Module", bound=nn.Module)


def training_device() -> torch.device:
    """Return the first NVIDIA GPU, or the CPU when there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def place(network: Module) -> Module:
    """Move a network to the training device, channels last: the layout in which convolutions are fastest.

    From then on a GPU computes float32 as float32, in search, pruning and measurements too.
    """
    compute_in_float32()
    return lay_channels_last(network.to(training_device()))


def place_images(images: Sequence[Tensor]) -> list[Tensor]:
    """Move a batch to the training device, channels last."""
    return [image.to(training_device(), memory_format=torch.channels_last) for image in images]


def laid_out_like(tensor: Tensor, model: Tensor) -> Tensor:
    """Return a tensor of the same shape as ``model`` with the memory layout of it, copied only where it has another."""
    # Those of axes of one number count too: fused Adam compares all strides.
    return tensor if tensor.stride() == model.stride() else torch.empty_like(model).copy_(tensor)


def lay_out_moments(optimizer: torch.optim.Adam) -> None:
    """Return Adam's moments the memory layout of their weights, which files do not keep.

    Fused Adam reads them in the order of memory: a GPU refuses another layout, and a CPU takes wrong numbers.
    """
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if value.shape == parameter.shape:
                moments[name] = laid_out_like(value, parameter)


def time_when_done() -> float:
    """Return the time in seconds, after the training device has finished its work."""
    if training_device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class TooLittleMemoryError(TrainingError):
    """Memory ran out."""


@contextmanager
def memory_checked(hint: str = "Lower --batch or --patch.") -> Iterator[None]:
    """Say what to do when the block runs out of memory.

    Raises:
        TooLittleMemoryError: it did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _ran_out(error):
            raise
        raise TooLittleMemoryError(
            f"the {training_device().type.upper()} has too little memory for one step.", hint
        ) from error


def _ran_out(error: BaseException) -> bool:
    """Return whether an error is of too little memory, or came of one, as at the end of a recording that broke off."""
    # torch has an exception for it; a CPU's allocator, and CUDA where it needs memory itself, only say it in words.
    said = any(words in str(error) for words in ("allocate memory", "out of memory"))
    cause = error.__context__
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or said or (cause is not None and _ran_out(cause))


@contextmanager
def compilation_checked() -> Iterator[None]:
    """Say what to do when ``torch.compile`` fails in the block.

    Raises:
        TrainingError: it did.
    """
    # Slow to import, and not needed without torch.compile.
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = str(error).split("\n", maxsplit=1)[0].rstrip(".")
        raise TrainingError(f"torch.compile failed: {reason}.", "Leave out --compile.") from error
