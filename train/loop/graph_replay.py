"""Forward and backward pass as a CUDA graph: recorded once, then started by one call per update.

A deep network of narrow layers is made of thousands of short kernels, which a host launches more slowly than a GPU
computes them.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from drc_deploy.torch_gpu import record, warm_up

Pass = Callable[[Sequence[Tensor]], Tensor]
"""Computes the losses of a batch and leaves the gradients in the parameters."""


def recorded(
    run: Pass, images: Sequence[Tensor], parameters: Sequence[nn.Parameter], after: "GraphReplay | None" = None
) -> "GraphReplay | None":
    """Record ``run``; return None where it waits for the device, which a recording must not.

    Args:
        run: Must do the same for every batch.
        images: A batch on the GPU; every later one has its shapes and layouts.
        parameters: Whose gradients ``run`` computes.
        after: A pass that is replayed before this one in every update: the two share memory.
    """
    own = [image.clone() for image in images]
    if not warm_up(lambda: run(own)):
        return None
    for parameter in parameters:
        parameter.grad = None  # so that the recording writes gradients, instead of adding to those of before
    graph, losses = record(lambda: run(own), after.graph if after else None)
    return GraphReplay(graph, own, losses)


class GraphReplay:
    """A recorded pass. Its gradients live in the same memory in every update, so they must never be set to None."""

    def __init__(self, graph: Any, images: Sequence[Tensor], losses: Tensor) -> None:
        """Keep what ``recorded`` made: the graph, and the memory that it reads and writes."""
        self.graph, self._images, self._losses = graph, images, losses

    def __call__(self, images: Sequence[Tensor]) -> Tensor:
        """Run the pass on a batch: gradients are in the parameters afterwards, losses are returned."""
        for mine, image in zip(self._images, images, strict=True):
            mine.copy_(image)
        self.graph.replay()
        return self._losses.clone()
