"""In which precision a plan's layers really compute."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from drc_deploy.engine_info import PlanOptions, Precision
from drc_deploy.errors import VerificationError
from drc_deploy.export.trt.libraries import Library
from drc_deploy.runtime.backends.trt.plan import inspected_layers, make_runtime

INT8, OTHER = "int8", "other"
_KINDS = tuple(
    (kind, re.compile(words))
    for kind, words in (
        ("bf16", "BF16|BFLOAT16"),
        ("fp16", "HALF|FP16"),
        ("fp32", "FLOAT|FP32"),
        (INT8, "(?<!U)INT8"),  # UINT8 is of images
    )
)
"""Our names, and the words that TensorRT's versions use for them; the first that occurs counts."""


@dataclass(frozen=True, slots=True)
class LayerPrecision:
    """How many layers give each precision: ``int8``, ``bf16``, ``fp16``, ``fp32`` or ``other`` (integers, shapes)."""

    layers: Mapping[str, int]
    convolutions: Mapping[str, int]
    """The same of convolutions, where one that takes int8 counts as ``int8``, whatever it gives."""
    source: Literal["engine", "graph"]
    """``engine``: the inspector of the finished engine; ``graph``: the typed network it was built from."""

    def require(self, precision: Precision, declared: "LayerPrecision") -> None:
        """Check that most convolutions are in ``precision``: of all, and in INT8 of those that the graph has in it.

        Args:
            precision: that was asked for.
            declared: what the graph says.

        Raises:
            VerificationError: they are not.
        """
        total = sum(self.convolutions.values())
        if precision == "int8":
            total = declared.convolutions.get(precision, 0)
        matching = self.convolutions.get(precision, 0)
        if 2 * matching <= total:
            raise VerificationError(
                f"only {matching} of {total} convolutions of the {precision} plan compute in {precision} "
                f"(reported by the {self.source}): {dict(self.convolutions)}.",
                "This GPU or TensorRT prefers another precision: export with that one.",
            )


def precision_of_graph(trt: Any, network: Any) -> LayerPrecision:
    """Count in a strongly typed network, whose layers compute in the types that they declare."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    dequantised = {
        layer.get_output(0).name
        for layer in layers
        # By name, because the number of the type differs between versions.
        if layer.type.name == "DEQUANTIZE" and _kind(layer.get_input(0).dtype.name) == INT8
    }
    pairs = []
    for layer in layers:
        if not layer.num_outputs:
            continue
        is_convolution, kind = layer.type == trt.LayerType.CONVOLUTION, _kind(layer.get_output(0).dtype.name)
        # Both its input and its weights come out of a dequantisation, which TensorRT fuses with it.
        if is_convolution and dequantised and all(layer.get_input(index).name in dequantised for index in range(2)):
            kind = INT8
        pairs.append((is_convolution, kind))
    return _count(pairs, "graph")


def inspect_engine(library: Library, plan: bytes, logger: Any, options: PlanOptions) -> str:
    """Return the engine inspector's JSON of a plan that was just built; empty where the plan cannot be opened.

    TensorRT builds on the GPU that the plan is for, so that the plan opens there. A plan of TensorRT-RTX is compiled
    when it is loaded: its layers are those of the graph, and without a GPU it cannot be opened at all.
    """
    if library.name == "tensorrt_rtx":
        return ""
    trt = library.module
    engine = make_runtime(trt, logger, options).deserialize_cuda_engine(plan)
    if engine is None:
        return ""
    text: str = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return text


def parse_inspection(text: str) -> LayerPrecision | None:
    """Read the inspector's JSON, in the layouts of TensorRT 8 to 11; None when it names no convolution."""
    found = _count([(_is_convolution(layer), _compute_kind(layer)) for layer in inspected_layers(text)], "engine")
    return found if found.convolutions else None


def _is_convolution(layer: Mapping[str, Any]) -> bool:
    kinds = (str(layer.get(key, "")).lower() for key in ("LayerType", "ParameterType"))
    return any("conv" in kind and "deconv" not in kind for kind in kinds)


def _compute_kind(layer: Mapping[str, Any]) -> str:
    """Return the kind of a layer's output; INT8 where a convolution takes int8, which it then computes with."""
    if _is_convolution(layer) and _tensor_kind(layer, "Inputs") == INT8:
        return INT8
    return _tensor_kind(layer, "Outputs")


def _tensor_kind(layer: Mapping[str, Any], side: str) -> str:
    tensors = layer.get(side) or [{}]
    first = tensors[0] if isinstance(tensors[0], dict) else {}
    return _kind(" ".join(str(value) for key, value in first.items() if "type" in key.lower() or key == "Format"))


def _kind(description: str) -> str:
    words = description.upper()
    return next((kind for kind, names in _KINDS if names.search(words)), OTHER)


def _count(pairs: Iterable[tuple[bool, str]], source: Literal["engine", "graph"]) -> LayerPrecision:
    pairs = list(pairs)
    return LayerPrecision(
        layers=dict(sorted(Counter(kind for _, kind in pairs).items())),
        convolutions=dict(sorted(Counter(kind for convolution, kind in pairs if convolution).items())),
        source=source,
    )
