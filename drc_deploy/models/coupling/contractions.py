"""What convolutions, matrix products and norms do to the ids of their operands."""

import torch
from torch import Tensor

from drc_deploy.models.coupling.ids import Classes, Ids, Traced
from drc_deploy.models.coupling.rules import ALONE, Call, meet, mix_in_place

GROUPED = "a grouped convolution mixes its channels"


def convolution(classes: Classes, call: Call) -> list[Ids]:
    """Let the inputs of the weight go with the channels that it reads; the outputs are those of the weight."""
    x, weight = call.operand(0), call.operand(1)
    transposed, groups = call.args[6], call.args[8]
    axis_in, axis_out = (0, 1) if transposed else (1, 0)
    inputs = _channels(classes, x, x.ids, 1, call.mixes)
    outputs = _channels(classes, weight, weight.along(axis_out), axis_out, call.mixes)
    classes.pin((ids for ids in weight.ids if max(ids.shape[:2]) == 1), call.mixes)
    if groups == 1:
        _read(classes, inputs, _channels(classes, weight, weight.along(axis_in), axis_in, call.mixes), weight)
    elif groups == len(inputs) and not transposed:
        classes.unite(inputs.repeat_interleave(len(outputs) // groups), outputs, ALONE)
    else:
        classes.pin([inputs, *weight.ids], GROUPED)
        outputs = torch.zeros(call.outputs[0].shape[1], dtype=torch.int64)
    return [_with_bias(classes, call, outputs)]


def _channels(classes: Classes, operand: Traced, ids: Ids, axis: int, reason: str) -> Tensor:
    """Return one id for each index along an axis, 0 where there is none; all other dimensions are mixed."""
    others = [dim for dim in range(operand.value.dim()) if dim != axis]
    found = [mixed.flatten() for mixed in classes.mix(ids, others, reason)]
    for more in found[1:]:
        classes.unite(found[0], more, reason)
    return found[0] if found else torch.zeros(operand.value.shape[axis], dtype=torch.int64)


def _read(classes: Classes, channels: Tensor, inputs: Tensor, weight: Traced) -> None:
    """Let the inputs of a weight go with the channels that it reads."""
    if weight.loose_weight:
        classes.pin([channels, inputs], _loose(weight))
    elif channels.shape[-1] > 1:
        classes.unite(channels, inputs, ALONE)


def _loose(weight: Traced) -> str:
    return f"{weight.loose_weight} reads its channels, and belongs to no Conv2d, ConvTranspose2d or Linear"


def _with_bias(classes: Classes, call: Call, outputs: Tensor) -> Ids:
    """Return the ids of the result of a convolution."""
    shape = [1, -1] + [1] * (call.outputs[0].dim() - 2)
    result = Traced(call.outputs[0], [outputs.view(shape)] if len(outputs) > 1 else [])
    return result.ids if call.args[2] is None else meet(classes, [result, _shaped(call.operand(2), shape)])


def _shaped(vector: Traced, shape: list[int]) -> Traced:
    """Return a vector along one dimension of a larger tensor."""
    return Traced(vector.value.view(shape), [ids.view(shape) for ids in vector.ids])


def linear(classes: Classes, call: Call) -> list[Ids]:
    """Multiply by a transposed weight, and add a bias."""
    weight = call.operand(1)
    turned = Traced(weight.value.mT, [ids.mT for ids in weight.ids], weight.loose_weight)
    result = Traced(call.outputs[0], contract(classes, call.operand(0), turned, call.mixes))
    bias = call.argument(2)
    return [meet(classes, [result, bias]) if isinstance(bias, Traced) else result.ids]


def multiply(classes: Classes, call: Call) -> list[Ids]:
    """Multiply two matrices."""
    return [contract(classes, call.operand(0), call.operand(1), call.mixes)]


def multiply_and_add(classes: Classes, call: Call) -> list[Ids]:
    """Multiply two matrices, and add the first operand."""
    product = contract(classes, call.operand(1), call.operand(2), call.mixes)
    return [meet(classes, [call.operand(0), Traced(call.outputs[0], product)])]


def contract(classes: Classes, first: Traced, second: Traced, reason: str) -> Ids:
    """Return the ids of (..., n, k) @ (..., k, m), and let those go together that are multiplied and summed over k.

    Args:
        classes: Where ids are united.
        first: The left matrix.
        second: The right one; it may have fewer dimensions.
        reason: Why ids that differ along dimensions of batches only cannot be cut.
    """
    rank = first.value.dim()
    right = Traced(
        second.value,
        [ids.reshape([1] * (rank - ids.dim()) + list(ids.shape)) for ids in second.ids],
        second.loose_weight,
    )
    _contracted(classes, first, right, reason)
    rows = [ids for ids in first.ids if ids.shape[-1] == 1]
    columns = [ids for ids in right.ids if ids.shape[-2] == 1]
    classes.pin((ids for ids in (*rows, *columns) if max(ids.shape[-2:]) == 1), reason)
    return [ids for ids in (*rows, *columns) if max(ids.shape[-2:]) > 1]


def _contracted(classes: Classes, first: Traced, second: Traced, reason: str) -> None:
    left = classes.mix(first.along(-1), (-2,), reason)
    right = [ids.mT for ids in classes.mix(second.along(-2), (-1,), reason)]
    nobody = torch.zeros([1] * first.value.dim(), dtype=torch.int64)
    for operand in (first, second):
        if operand.loose_weight:
            classes.pin([*left, *right], _loose(operand))
    if first.value.shape[-1] > 1:
        one, other = left or [nobody], right or [nobody]
        for ids in (*one[1:], *other):
            classes.unite(one[0], ids, ALONE)


def channel_norm(classes: Classes, call: Call) -> list[Ids]:
    """Normalise each channel by itself, with factors of its own: BatchNorm, InstanceNorm."""
    x, *factors = call.operands
    shape = [1, -1] + [1] * (x.value.dim() - 2)
    spatial = classes.mix(x.ids, range(2, x.value.dim()), call.mixes)
    return [meet(classes, [Traced(x.value, spatial), *(_shaped(factor, shape) for factor in factors)])]


def group_norm(classes: Classes, call: Call) -> list[Ids]:
    """Normalise groups of channels, which are mixed unless each is a group of its own."""
    x = call.operand(0)
    if call.args[1] == x.value.shape[1]:
        return channel_norm(classes, call)
    return [mix_in_place(classes, call, range(1, x.value.dim()))]


def layer_norm(classes: Classes, call: Call) -> list[Ids]:
    """Normalise over the last dimensions."""
    return [mix_in_place(classes, call, range(-len(call.args[1]), 0))]
