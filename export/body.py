"""The graph that all exported variants of a network share, in the precision asked for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drc_deploy.engine_info import Precision
from drc_deploy.export.graph.graph import trace_graph
from drc_deploy.export.graph.simplify import simplify_graph
from drc_deploy.export.precision.int8 import Int8Cost, choose_int8
from drc_deploy.export.precision.quantise import Form
from drc_deploy.export.precision.sparing import PrecisionChoice, choose_precision
from drc_deploy.export.request import ExportRequest
from drc_deploy.export.trt.plan_export import PlanBuilder
from drc_deploy.models.network import SRNetwork

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Body:
    """A graph of float32 NHWC pixels, and how it came to be."""

    graph: "onnx.ModelProto"
    precision: Precision
    """Of the graph: fp32 where the library that builds the plan lowers it by itself."""
    choice: PrecisionChoice
    int8: Int8Cost | None = None
    """What INT8 costs; None in another precision."""


def make_body(network: SRNetwork, request: ExportRequest, builder: PlanBuilder | None) -> Body:
    """Choose the precision of every layer, and make the graph.

    Args:
        network: in float32.
        request: what the user asked for.
        builder: of the plan; None for no plan.

    Raises:
        InputError: the images to calibrate on cannot be used.
        VerificationError: torch cannot export the network, the precision costs too much, or the library that builds
            the plan cannot spare single layers.
    """
    if request.precision == "int8":
        form: Form = "tensorrt" if builder else "cpu"
        choice, graph, cost = choose_int8(network, form, request.calibrate)
        precision = builder.graph_precision(choice) if builder else choice.precision
        return Body(graph, precision, choice, cost)
    choice = choose_precision(network, request.precision, request.max_batch)
    precision = builder.graph_precision(choice) if builder else choice.precision
    graph = trace_graph(choice.lower(network, precision), precision)
    simplify_graph(graph)
    return Body(graph, precision, choice)
