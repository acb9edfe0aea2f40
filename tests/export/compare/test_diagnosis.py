import numpy as np
import pytest
import torch

from drc_deploy.export.compare.diagnosis import find_layer_fault
from drc_deploy.export.compare.reference import find_infinite_layer, pixel_network
from drc_deploy.export.precision.half_graph import to_half
from tests.export.networks import Toy, graph_of

PIXELS = torch.rand(1, 6, 6, 3, generator=torch.Generator().manual_seed(0)) * 255
BATCH = PIXELS.numpy().astype(np.uint8)


def test_the_layer_that_overflows_is_named() -> None:
    graph = graph_of(Toy(gain=1e4))
    fault = find_layer_fault(graph, to_half(graph, "fp16"), BATCH)
    assert fault is not None
    assert fault.startswith("inner, which overflows")


def test_the_layer_that_deviates_is_named() -> None:
    network, other = Toy(), Toy()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        other.inner.weight.mul_(1.5)
    fault = find_layer_fault(graph_of(network), to_half(graph_of(other), "fp16"), BATCH)
    assert fault is not None
    assert fault.startswith("inner, which deviates")


def test_a_healthy_network_has_no_fault() -> None:
    graph = graph_of(Toy())
    assert find_layer_fault(graph, to_half(graph, "fp16"), BATCH) is None


@pytest.mark.parametrize("name", ["head", "inner", "tail"])
def test_the_first_infinite_layer_is_found(name: str) -> None:
    network = Toy()
    with torch.no_grad():
        network.convolution(name).weight.fill_(float("inf"))
    assert find_infinite_layer(pixel_network(network), PIXELS) == f"network.{name}"
