"""Finds the layers of a network that can be cut. That cutting them works is shown by ``proof.prove``."""

from collections import Counter

from torch import Tensor, nn

from drc_deploy.models.coupling.layers import Grouping, group_channels, layer_sides
from drc_deploy.models.coupling.trace import Tracing, export
from drc_deploy.slices import LeftOut, PrunableLayer


def discover(net: nn.Module, example: Tensor) -> tuple[list[PrunableLayer], list[LeftOut]]:
    """Return the layers whose channels are made before they are read, and what else makes channels.

    Args:
        net: In evaluation mode; maps (N, C, H, W) to an image, or to several. It is not changed.
        example: An image that it takes, as small as it may be: time grows with its pixels.

    Returns:
        The layers in the order of computation, and why other channels are none. If the network cannot
        be traced, there are no layers, and that is the one reason.
    """
    sides = layer_sides(net)
    try:
        program = export(net, example)
        tracing = Tracing(program, example, frozenset(tensor for tensor, _ in sides))
        tracing.run()
    except Exception as error:  # a foreign network may fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return [], [LeftOut("", f"it cannot be traced: {reason}")]
    state = list(net.state_dict())
    order = {name: (tracing.first_use.get(name, -1), place) for place, name in enumerate(state)}
    return group_channels(tracing.classes, Grouping(sides, order, _shared(net), example.shape[1]))


def _shared(net: nn.Module) -> frozenset[str]:
    """Return the names of tensors that have more than one."""
    named = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
    counts = Counter(id(tensor) for _, tensor in named)
    return frozenset(name for name, tensor in named if counts[id(tensor)] > 1)
