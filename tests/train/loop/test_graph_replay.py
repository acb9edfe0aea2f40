"""A training step replayed on a GPU makes the updates of the same step launched kernel by kernel."""

import pytest
import torch

from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.loop import graph_replay
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.loop.trainer import Trainer

STEPS = 12


def train(*, replays: bool, precision: str) -> tuple[dict[str, torch.Tensor], list[float]]:
    torch.manual_seed(0)
    network = build_network(ModelSpec("drn_xs", 4))
    trainer = Trainer(network, network.build_duals(), TrainOptions(STEPS, 4, 12, precision=precision, ema=0.9))  # type: ignore[arg-type]
    trainer.replays = replays
    random = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(STEPS):
        # Not random pixels: nothing to learn there. Ramps, of other slopes in every step.
        slope = torch.rand(4, 3, 1, 1, generator=random) * 4
        images = [(slope / 2**k * torch.arange(12 << k).view(1, 1, 1, -1).expand(4, 3, 12 << k, -1)) for k in range(3)]
        trainer.update([image.contiguous(memory_format=torch.channels_last) for image in images])
        losses.append((trainer.take_losses() or {})["loss"])
    return network.state_dict(), losses


def test_a_network_that_waits_for_the_device_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_replay, "warm_up", lambda run: run() is None)
    refused, losses = train(replays=True, precision="fp32")
    launched, expected = train(replays=False, precision="fp32")
    assert losses == expected
    assert all(torch.equal(refused[name], tensor) for name, tensor in launched.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_replayed_updates_are_the_launched_ones(precision: str) -> None:
    replayed, losses = train(replays=True, precision=precision)
    launched, expected = train(replays=False, precision=precision)
    assert losses == pytest.approx(expected, rel=0.02 if precision != "fp32" else 1e-3)
    assert losses[0] > losses[-1] + 2  # it learns, so that equal means something
    for name, tensor in launched.items():
        torch.testing.assert_close(replayed[name], tensor, rtol=0, atol=2e-3, msg=name)
