"""Mixed precision: which part of a training step is computed in 16 bits."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from drc_deploy.models.network import SRNetwork
from drc_deploy.torch_gpu import prepare_gpu
from drc_deploy.train.device import training_device
from drc_deploy.train.loop.run_options import TrainingPrecision

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: TrainingPrecision) -> AbstractContextManager[object]:
    """Compute the convolutions of the block in ``precision``."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(training_device().type, _DTYPES[precision])


def gradient_scaler(precision: TrainingPrecision) -> torch.amp.GradScaler:
    """Return the scaler that keeps small gradients above zero in float16; it does nothing in the other precisions."""
    return torch.amp.GradScaler(training_device().type, enabled=precision == "fp16")


def prepare_device(precision: TrainingPrecision) -> None:
    """Let the training device compute in ``precision``, and in float32 where that is asked for.

    Raises:
        MissingDependencyError: the GPU has no bfloat16.
    """
    if training_device().type == "cuda":
        prepare_gpu(precision)


def keep_images_float32(network: SRNetwork) -> None:
    """Take ``network.image_modules`` out of every ``autocast`` from now on."""
    for name in network.image_modules:
        module = network.get_submodule(name)
        # On the instance: a wrapping module would change the names in the state dict.
        module.forward = _in_float32(module)


def _in_float32(module: nn.Module) -> Callable[[Tensor], Tensor]:
    forward = module.forward

    def run(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            result: Tensor = forward(x.float())
            return result

    return run
