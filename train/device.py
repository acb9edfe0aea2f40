"""Where training runs, and in which memory layout."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def training_device() -> torch.device:
    """Give the first NVIDIA GPU, or the CPU when there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def place(network: Module) -> Module:
    """Move a network to the training device, channels last: the layout in which convolutions are fastest."""
    # The type stubs of torch do not know `memory_format` here.
    return network.to(training_device()).to(memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]


def place_images(images: Sequence[Tensor]) -> list[Tensor]:
    """Move a batch to the training device, channels last."""
    return [image.to(training_device(), memory_format=torch.channels_last) for image in images]
