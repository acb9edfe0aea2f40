"""A network as a user runs it: pixels in and pixels out, with rounding and clipping."""

from torch import Tensor, nn

from drc_deploy.models.network import SRNetwork


class PixelNetwork(nn.Module):
    """A network over NHWC images, as files and video frames lie in memory."""

    def __init__(self, network: SRNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor) -> Tensor:
        """(N, H, W, 3) float32 in [0, 255] -> (N, scale*H, scale*W, 3) float32, unclamped."""
        # Without contiguous() the network would see channels-last memory, which some operations export badly.
        sr = self.network.upscale(lr.permute(0, 3, 1, 2).contiguous())
        return sr.permute(0, 2, 3, 1).contiguous()
