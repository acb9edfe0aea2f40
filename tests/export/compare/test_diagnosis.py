import pytest
import torch

from drc_deploy.export.compare.diagnosis import find_infinite_layer, find_layer_fault
from drc_deploy.export.compare.reference import with_precision
from tests.export.networks import Toy

PIXELS = torch.rand(1, 6, 6, 3, generator=torch.Generator().manual_seed(0)) * 255


def test_the_layer_that_overflows_is_named() -> None:
    network = Toy(gain=1e4)
    fault = find_layer_fault(with_precision(network, "fp32"), with_precision(network, "fp16"), PIXELS)
    assert fault is not None
    assert fault.startswith("network.inner, which overflows")


def test_the_layer_that_deviates_is_named() -> None:
    network, other = Toy(), Toy()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        other.inner.weight.mul_(1.5)
    fault = find_layer_fault(with_precision(network, "fp32"), with_precision(other, "fp16"), PIXELS)
    assert fault is not None
    assert fault.startswith("network.inner, which deviates")


def test_a_healthy_network_has_no_fault() -> None:
    network = Toy()
    assert find_layer_fault(with_precision(network, "fp32"), with_precision(network, "fp16"), PIXELS) is None


@pytest.mark.parametrize("name", ["head", "inner", "tail"])
def test_the_first_infinite_layer_is_found(name: str) -> None:
    network = Toy()
    with torch.no_grad():
        network.convolution(name).weight.fill_(float("inf"))
    assert find_infinite_layer(with_precision(network, "fp32"), PIXELS) == f"network.{name}"
