"""What is alive at a time is counted as a network of known tensors has it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from drc_deploy.locate import SHIPPED
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.runtime.backends.pytorch import loaded_network
from drc_deploy.runtime.backends.pytorch.loaded_network import ALLOWANCE, bytes_per_pixel
from tests.models.plain_network import PlainNetwork


class Chain(PlainNetwork):
    """Three tensors of ``widths`` channels, of which two are alive at a time, the first one never again."""

    channels = (5, 20, 7)

    def upscale(self, lr: torch.Tensor) -> torch.Tensor:
        x = lr
        for count in self.channels:
            x = x.new_empty(1, count, *lr.shape[2:])
        return x.view_as(x)  # no memory of its own


def test_the_peak_is_that_of_what_is_alive_together() -> None:
    network = Chain(ModelSpec("chain", 4))
    assert bytes_per_pixel(network) == int(ALLOWANCE * 4 * (20 + 7))


class Layers(PlainNetwork):
    """Layers whose results have other sides or other numbers of channels than their inputs."""

    def upscale(self, lr: torch.Tensor) -> torch.Tensor:
        x = nn.Conv2d(3, 12, (3, 5), stride=(2, 1), padding=(1, 0), dilation=(2, 3), groups=3)(lr)
        x = nn.Linear(12, 40)(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = nn.functional.conv2d(x, torch.zeros(16, 40, 3, 3), padding=1, stride=1, dilation=2)
        result: torch.Tensor = nn.Conv2d(4, 3, 3, padding="same")(nn.functional.pixel_shuffle(x[0], 2))
        return result


@pytest.mark.parametrize("name", ["layers", "drn_xs"])
def test_layers_that_are_not_computed_count_as_if_they_were(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Layers(ModelSpec("plain", 4)) if name == "layers" else build_network(ModelSpec(name, 4))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    counted = bytes_per_pixel(network)
    monkeypatch.setattr(loaded_network, "_sized", lambda operation, args, kwargs: operation(*args, **kwargs))
    assert counted == bytes_per_pixel(network) > 0


class Attention(PlainNetwork):
    """Attention over rows, whose matrices torch computes inside one operation or in the open."""

    fused = True

    def upscale(self, lr: torch.Tensor) -> torch.Tensor:
        query, value = lr.permute(0, 2, 3, 1), lr.permute(0, 2, 3, 1).repeat(1, 1, 1, 2)
        if self.fused:  # with values wider than queries, the fused kernel is not taken
            return nn.functional.scaled_dot_product_attention(query, query, value)
        return (query @ query.transpose(2, 3)).softmax(-1) @ value


def test_what_is_made_of_other_operations_holds_what_they_hold() -> None:
    network = Attention(ModelSpec("plain", 4))
    counted = bytes_per_pixel(network)
    network.fused = False
    assert counted == pytest.approx(bytes_per_pixel(network), rel=0.3)


CHILD = """
import sys
from pathlib import Path
from drc_deploy.runtime.backends.pytorch.loaded_network import TileNetwork
assert TileNetwork(Path(sys.argv[1]), "fp32").info.cpu_bytes_per_pixel
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU nothing is counted")
def test_to_count_does_not_import_the_compiler_of_torch() -> None:
    """Which takes longer than to load a network."""
    path: Path = SHIPPED / "drn_xs.safetensors"
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
