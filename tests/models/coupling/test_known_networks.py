"""Published networks: how much of them can be cut, and that cutting is masking."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drc_deploy.models import zoo
from drc_deploy.models.coupling.discovery import discover
from drc_deploy.models.cutting import narrow, select_channels
from drc_deploy.models.foreign import prepare
from drc_deploy.models.proof import prove
from drc_deploy.slices import LeftOut, PrunableLayer
from drc_deploy.state_dict_file import read_state_dict
from tests.models.coupling.rlfn import RLFN


def of_zoo(target: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(0)
        net = zoo.build(f"spandrel.architectures.{target}", settings)
        return prepare(net, ("running_mean", "running_var"))

    return build


def of_file(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        state = read_state_dict(weights(name))
        return prepare(zoo.recognise(state, name).network)

    return build


def rlfn() -> nn.Module:
    net = RLFN()
    net.load_state_dict(read_state_dict(weights("ntire24_team00_rlfn.pth")))
    return net.eval()


def weights(name: str) -> Path:
    path = Path(os.environ.get("DRC_DEPLOY_DATA", "/nowhere")).parent / "weights" / name
    if not path.exists():
        pytest.skip(f"no {name} next to the benchmark images")
    return path


@dataclass(frozen=True)
class Known:
    build: Callable[[], nn.Module]
    layers: int
    share: float
    """Parameters that some layer touches, of all."""
    left_out: frozenset[str] = frozenset(("its channels make the image",))
    """Reasons."""
    side: int = 16
    """Of the image, in pixels."""


COLOURS = "it has no more channels than the image"
IMAGE, ALONE = "its channels make the image", "its channels are joined with what no layer makes, such as the image"
MEAN = "the operation mean mixes its channels"
UPCUNET = "RealCUGAN.__arch.upcunet_v3:UpCunet2x"
KNOWN = {
    "Compact": Known(of_file("realesr-animevideov3-x4.fp16src.safetensors"), 17, 1.0, frozenset((ALONE,))),
    "SPAN-48": Known(of_file("spanx4_ch48.fp16src.safetensors"), 14, 0.996, frozenset((IMAGE,))),
    "RLFN": Known(rlfn, 20, 0.845, frozenset((IMAGE,)), 24),
    "ESRGAN": Known(
        of_zoo("ESRGAN.__arch.RRDB:RRDBNet", num_blocks=2, num_filters=16), 27, 0.995, frozenset((IMAGE,)), 8
    ),
    "RCAN": Known(
        of_zoo("RCAN.__arch.rcan_arch:RCAN", n_resgroups=2, n_resblocks=2, n_feats=64, scale=4),
        10,
        0.84,
        frozenset((IMAGE, COLOURS)),
        8,
    ),
    "SAFMN": Known(of_zoo("SAFMN.__arch.safmn:SAFMN", dim=36, n_blocks=8), 8, 0.868, frozenset((MEAN, IMAGE))),
    "RealCUGAN": Known(of_zoo(UPCUNET), 15, 0.923, frozenset((IMAGE,)), 20),
}


@dataclass(frozen=True)
class Examined:
    known: Known
    net: nn.Module
    image: Tensor
    layers: list[PrunableLayer]
    left_out: list[LeftOut]


SLOW = ("RCAN", "SAFMN", "RealCUGAN")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in KNOWN],
)
def examined(request: pytest.FixtureRequest) -> Examined:
    known = KNOWN[request.param]
    net = known.build()
    image = torch.rand(1, 3, known.side, known.side, generator=torch.Generator().manual_seed(0))
    layers, left_out = discover(net, image)
    return Examined(known, net, image, layers, left_out)


def test_as_many_layers_are_found_and_they_touch_as_much(examined: Examined) -> None:
    inner = [layer for layer in examined.layers if not layer.trunk]
    assert len(inner) == examined.known.layers
    assert {each.reason for each in examined.left_out} == examined.known.left_out
    sizes = {name: parameter.numel() for name, parameter in examined.net.named_parameters()}
    touched = {s.tensor for layer in inner for s in layer.slices}
    share = sum(sizes.get(name, 0) for name in touched) / sum(sizes.values())
    assert share == pytest.approx(examined.known.share, abs=0.005)


def test_all_of_them_pass_the_proof(examined: Examined) -> None:
    kept, left_out = prove(examined.net, examined.layers, [examined.image])
    # ReLUs of attention may never be positive in networks that were not trained.
    assert all("change nothing" in each.reason and "conv_du" in each.name for each in left_out)
    assert len(kept) + len(left_out) == len(examined.layers)


def test_any_cut_of_all_layers_is_a_mask(examined: Examined) -> None:
    generator = torch.Generator().manual_seed(1)
    widths = [int(torch.randint(1, layer.full_width + 1, (), generator=generator)) for layer in examined.layers]
    kept = [
        sorted(torch.randperm(layer.full_width, generator=generator)[:width].tolist())
        for layer, width in zip(examined.layers, widths, strict=True)
    ]
    masked, cut = copy.deepcopy(examined.net).double(), copy.deepcopy(examined.net).double()
    for layer, channels in zip(examined.layers, kept, strict=True):
        gone = [channel for channel in range(layer.full_width) if channel not in channels]
        for s in layer.read:
            masked.get_parameter(s.tensor).data.index_fill_(
                s.axis, torch.tensor(s.indices(gone, layer.full_width)).long(), 0
            )
    narrow(cut, examined.layers, widths)
    cut.load_state_dict(select_channels(masked.state_dict(), examined.layers, kept), strict=False)
    image = examined.image.double()
    with torch.no_grad():
        expected, full = masked(image.clone()), examined.net(examined.image.clone())
        scale = float(expected.abs().max())
        assert float((cut(image.clone()) - expected).abs().max()) <= 1e-5 * scale
        assert float((full - expected).abs().max()) > 1e-4 * float(full.abs().max())
