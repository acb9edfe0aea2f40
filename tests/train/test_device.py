"""Where training runs."""

import pytest
import torch
from torch import nn

from drc_deploy.train.device import place


def test_whatever_is_placed_is_computed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU torch would round inputs of convolutions to 11 bits; search, pruning and PSNR come by here too."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    place(nn.Conv2d(1, 1, 1))
    assert not torch.backends.cudnn.allow_tf32
