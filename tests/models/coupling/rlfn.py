"""RLFN (Kong et al., 2022), as a user would write it: code of one's own that no library knows."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SpatialAttention(nn.Module):
    """Scales every pixel by what a strided, pooled branch sees."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1, self.conv_f = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, hidden, 1)
        self.conv2, self.conv3 = nn.Conv2d(hidden, hidden, 3, 2), nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv4 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        near = self.conv1(x)
        far = self.conv3(F.max_pool2d(self.conv2(near), 7, 3))
        far = F.interpolate(far, x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.conv4(far + self.conv_f(near)))


class Block(nn.Module):
    """Three convolutions around a skip, then attention."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.c1_r = nn.Conv2d(channels, inner, 3, padding=1)
        self.c2_r = nn.Conv2d(inner, inner, 3, padding=1)
        self.c3_r = nn.Conv2d(inner, channels, 3, padding=1)
        self.c5, self.esa = nn.Conv2d(channels, channels, 1), SpatialAttention(channels, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in (self.c1_r, self.c2_r, self.c3_r):
            y = F.leaky_relu(layer(y), 0.05)
        result: Tensor = self.esa(self.c5(y + x))
        return result


class RLFN(nn.Module):
    """(N, 3, H, W) -> (N, 3, 4*H, 4*W), both in [0, 255]."""

    def __init__(self, channels: int = 46, inner: int = 48) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(3, channels, 3, padding=1)
        for number in range(1, 5):
            self.add_module(f"block_{number}", Block(channels, inner))
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsampler = nn.Sequential(nn.Conv2d(channels, 48, 3, padding=1), nn.PixelShuffle(4))

    def forward(self, x: Tensor) -> Tensor:
        first = y = self.conv_1(x)
        for number in range(1, 5):
            y = self.get_submodule(f"block_{number}")(y)
        result: Tensor = self.upsampler(self.conv_2(y) + first)
        return result
