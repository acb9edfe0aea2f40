"""Traces a network, and computes with ids next to its values."""

import operator
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from drc_deploy.models.coupling import contractions, rules
from drc_deploy.models.coupling.ids import Classes, Ids, Traced
from drc_deploy.models.coupling.rules import Call, Rule, aten

_KEPT_WHOLE = ("upsample", "linear", "group_norm", "pad2d", "grid_sampler", "silu")
"""Parts of names of operations that have a rule here, and would be taken apart into many."""
_MOVES: frozenset[Rule] = frozenset((rules.move, rules.move_floats))


_PACKETS: dict[Rule, tuple[Any, ...]] = {
    rules.move: (aten._unsafe_view, aten.flip, aten.roll, aten.repeat, aten.index, aten.index_select),
    rules.move_floats: (aten.reflection_pad2d, aten.replication_pad2d),
    rules.pad: (aten.constant_pad_nd,),
    rules.copy: (aten.copy,),
    rules.concatenate: (aten.cat,),
    rules.stack: (aten.stack,),
    rules.scatter_slice: (aten.slice_scatter,),
    rules.elementwise: (
        aten._to_copy,
        aten.lift_fresh_copy,
        aten.zeros_like,
        aten.ones_like,
        aten.full_like,
        aten.empty_like,
    ),
    rules.create: (
        aten._assert_tensor_metadata,
        aten.new_zeros,
        aten.new_ones,
        aten.new_full,
        aten.new_empty,
    ),
    rules.reduce: (aten.mean, aten.sum, aten.amax, aten.amin, aten.max, aten.min, aten.var, aten.std),
    rules.softmax: (aten._softmax, aten._log_softmax),
    rules.resample: (
        aten.upsample_nearest2d,
        aten._upsample_nearest_exact2d,
        aten.upsample_bilinear2d,
        aten._upsample_bilinear2d_aa,
        aten.upsample_bicubic2d,
        aten._upsample_bicubic2d_aa,
        aten.avg_pool2d,
        aten.max_pool2d_with_indices,
        aten._adaptive_avg_pool2d,
        aten.adaptive_max_pool2d,
        aten.grid_sampler_2d,
    ),
    contractions.convolution: (aten.convolution,),
    contractions.linear: (aten.linear,),
    contractions.multiply: (aten.mm, aten.bmm),
    contractions.multiply_and_add: (aten.addmm, aten.baddbmm),
    contractions.channel_norm: (
        aten._native_batch_norm_legit_no_training,
        aten._native_batch_norm_legit,
        aten.native_batch_norm,
    ),
    contractions.group_norm: (aten.group_norm,),
    contractions.layer_norm: (aten.native_layer_norm,),
}
_RULES = {packet: rule for rule, packets in _PACKETS.items() for packet in packets}


def rule_for(op: Any) -> Rule:
    """Return what an operation does with ids; most follow from what torch itself says of it."""
    if not isinstance(op, OpOverload):
        return rules.unknown
    if op.overloadpacket in _RULES:
        return _RULES[op.overloadpacket]
    if torch.Tag.pointwise in op.tags:
        return rules.elementwise
    return rules.move if op.is_view and op.overloadpacket is not aten.as_strided else rules.unknown


def _decompositions() -> dict[Any, Any]:
    """Return how operations are taken apart, a new table each time: torch takes entries out of it."""
    return dict(_kept_decompositions())


@cache  # it takes torch half a second
def _kept_decompositions() -> dict[Any, Any]:
    table = torch.export.default_decompositions()
    return {op: table[op] for op in table if not any(name in str(op) for name in _KEPT_WHOLE)}


def export(net: nn.Module, example: Tensor) -> ExportedProgram:
    """Trace a network for one size, into operations that change nothing in place.

    Raises:
        Exception: whatever torch raises where it cannot; it has no common base for that.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself, and of networks: a user can do nothing about them
        program: ExportedProgram = torch.export.export(net, (example,), strict=False).run_decompositions(
            _decompositions()
        )
        return program


class Tracing(fx.Interpreter):
    """One run of a traced network whose tensors carry ids.

    Attributes:
        classes: The ids that the run united and pinned.
        first_use: Number of the first operation that reads a tensor of the state dict, by name.
    """

    def __init__(self, program: ExportedProgram, example: Tensor, layer_weights: frozenset[str]) -> None:
        super().__init__(program.graph_module)
        signature = program.graph_signature
        self.classes = Classes()
        self.first_use: dict[str, int] = {}
        self._names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        constants: Mapping[str, Any] = signature.inputs_to_lifted_tensor_constants
        self._values = {**program.state_dict, **program.constants}
        self._constants, self._example, self._layer_weights = constants, example, layer_weights
        self._trained = set(program.state_dict)
        self._step = 0

    def run_node(self, n: fx.Node) -> Any:
        """Note which tensors the operation reads."""
        self._step += 1
        if n.op == "call_function":
            for node in n.all_input_nodes:
                if node.name in self._names:
                    self.first_use.setdefault(self._names[node.name], self._step)
        return super().run_node(n)

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Return a tensor of the network with new ids, or the image, which has none."""
        name = self._names.get(target) or self._constants.get(target)
        if name is None:
            return Traced(self._example)
        value = self._values[name]
        if name not in self._trained or not isinstance(value, Tensor) or not value.is_floating_point():
            return Traced(value) if isinstance(value, Tensor) else value
        return Traced(value.detach(), self._new_ids(name, value), "" if name in self._layer_weights else name)

    def _new_ids(self, name: str, value: Tensor) -> Ids:
        def along(axis: int, size: int) -> Tensor:
            shape = [size if dim == axis else 1 for dim in range(value.dim())]
            return self.classes.new(name, axis, size).view(shape)

        return [along(axis, size) for axis, size in enumerate(value.shape) if size > 1]

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Return a constant of the graph."""
        value = super().get_attr(target, args, kwargs)
        return Traced(value) if isinstance(value, Tensor) else value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Compute the values, and the ids by the rule of the operation."""
        if target is operator.getitem:
            return args[0][args[1]]
        plain_args, plain_kwargs = pytree.tree_map_only(Traced, lambda operand: operand.value, (args, kwargs))
        with torch.no_grad():
            result = target(*plain_args, **plain_kwargs)
        return self._with_ids(target, args, kwargs, result)

    def _with_ids(self, target: Any, args: Any, kwargs: Any, result: Any) -> Any:
        outputs = rules.outputs_of(result)
        rule = rule_for(target)
        call = Call(target, args, kwargs, outputs)
        found = rule(self.classes, call) if any(operand.ids for operand in call.operands) else []
        loose = call.operand(0).loose_weight if rule in _MOVES and found else ""
        found += [[]] * (len(outputs) - len(found))
        traced = [
            Traced(value, self.classes.compact(ids), loose) if isinstance(value, Tensor) else value
            for value, ids in zip(outputs, found, strict=True)
        ]
        return traced if isinstance(result, tuple | list) else traced[0]

    def output(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Pin what becomes the image."""
        for leaf in pytree.tree_leaves(args):
            if isinstance(leaf, Traced):
                self.classes.pin(leaf.ids, "its channels make the image")
