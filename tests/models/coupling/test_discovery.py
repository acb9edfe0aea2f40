"""Layers found in networks small enough to know them by looking."""

from dataclasses import dataclass

import pytest
from torch import nn

from drc_deploy.models.coupling.discovery import discover
from drc_deploy.models.proof import prove
from drc_deploy.slices import LeftOut, PrunableLayer
from tests.models.coupling.cases import CASES, two_names
from tests.models.coupling.networks import IMAGE, Net, Together, as_text, conv, reasons

PREFIXES = {name: f"nets.case{i}." for i, name in enumerate(CASES)}
FIXED = ("a[0:]", "a[6:]", "part")
"""Layers that cannot be cut because the code has sizes of its own: torch.split and slices with numbers."""


@dataclass(frozen=True)
class Found:
    net: Together
    layers: list[PrunableLayer]
    left_out: list[LeftOut]


@pytest.fixture(scope="module")
def found() -> Found:
    net = Together({f"case{i}": case.net for i, case in enumerate(CASES.values())})
    return Found(net, *discover(net, IMAGE))


@pytest.mark.parametrize("name", CASES)
def test_layers_are_those_that_are_known(name: str, found: Found) -> None:
    def without_prefix(texts: dict[str, str]) -> dict[str, str]:
        prefix = PREFIXES[name]
        mine = {layer: text for layer, text in texts.items() if layer.startswith(prefix)}
        return {layer.removeprefix(prefix): text.replace(prefix, "") for layer, text in mine.items()}

    assert list(without_prefix(as_text(found.layers)).items()) == list(CASES[name].found.items())
    assert without_prefix(reasons(found.left_out)) == CASES[name].left_out


def test_a_cut_computes_what_masking_does_unless_code_has_sizes_of_its_own(found: Found) -> None:
    kept, left_out = prove(found.net, found.layers, [IMAGE])
    assert {layer.name for layer in found.layers} - {layer.name for layer in kept} == {each.name for each in left_out}
    assert all(each.reason.startswith("cutting it ") for each in left_out)
    assert {each.name.rpartition(".")[2] for each in left_out} == set(FIXED)


def test_tensors_with_two_names_are_not_cut() -> None:
    layers, left_out = discover(two_names(), IMAGE)
    assert layers == []
    assert set(reasons(left_out).values()) <= {f"{name}.weight has more than one name" for name in ("a", "again")}


def test_what_cannot_be_traced_has_no_layers_and_one_reason() -> None:
    net = Net(lambda n, x: n.b(x) if x.sum() > 0 else n.a(x), a=conv(3, 3), b=conv(3, 3))
    layers, left_out = discover(net, IMAGE)
    assert layers == []
    (only,) = left_out
    assert only.name == ""
    assert only.reason.startswith("it cannot be traced: ")
    assert "\n" not in only.reason


def test_a_network_without_layers_has_none() -> None:
    assert discover(nn.Upsample(scale_factor=2), IMAGE) == ([], [])
