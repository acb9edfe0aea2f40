"""Forward and backward pass as a CUDA graph: recorded once, then started by one call per update.

A deep network of narrow layers is made of thousands of short kernels, which a host launches more slowly than a GPU
computes them.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from drc_deploy.torch_gpu import record, warm_up

Pass = Callable[[Sequence[Tensor]], Tensor]
"""Computes the losses of a batch and leaves the gradients in the parameters."""


class GraphReplay:
    """A recorded pass. Its gradients live in the same memory in every update, so they must never be set to None."""

    def __init__(self, run: Pass, images: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> None:
        """Record ``run``.

        Args:
            run: Must do the same for every batch and never wait for the device.
            images: A batch on the GPU; every later one has its shapes and layouts.
            parameters: Whose gradients ``run`` computes.
        """
        self._images = [image.clone() for image in images]
        warm_up(lambda: run(self._images))
        for parameter in parameters:
            parameter.grad = None  # so that the recording writes gradients, instead of adding to those of before
        self._graph, self._losses = record(lambda: run(self._images))

    def __call__(self, images: Sequence[Tensor]) -> Tensor:
        """Run the pass on a batch: gradients are in the parameters afterwards, losses are returned."""
        for mine, image in zip(self._images, images, strict=True):
            mine.copy_(image)
        self._graph.replay()
        return self._losses.clone()
