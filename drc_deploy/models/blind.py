"""What networks for images with an unknown blur have in common: they estimate its kernel, and undo it."""

import abc

from torch import Tensor

from drc_deploy.models.one_image import OneImageNetwork


class BlindNetwork(OneImageNetwork):
    """A network that estimates the blur kernel of an image, and makes the image of both.

    Kernels are (N, 1, k, k) float32 in LR pixels, with an odd k. The LR image is the bicubic LR image of the sharp
    photograph, convolved with its kernel.

    Attributes:
        kernel_module: Module that returns the kernels.
        kernel_size: Side of the kernels, k.
    """

    kernel_module: str
    kernel_size: int

    @abc.abstractmethod
    def _estimate(self, lr: Tensor) -> Tensor:
        """Return the kernels of (N, 3, H, W) images in [0, 255]."""

    @abc.abstractmethod
    def _restore(self, lr: Tensor, kernel: Tensor) -> Tensor:
        """Return the finest images, of LR images and their kernels; a single kernel is that of all of them."""

    def compute(self, lr: Tensor) -> Tensor:
        """Return the image; see ``SRNetwork.upscale``. Its loss does not train the estimator."""
        return self._restore(lr, self._estimate(lr).detach())

    def estimate(self, lr: Tensor) -> Tensor:
        """Return the kernels of (N, 3, H, W) images in [0, 255]: (N, 1, k, k) float32."""
        with self._cast(lr):
            return self._estimate(lr)

    def restore(self, lr: Tensor, kernel: Tensor) -> Tensor:
        """Return the finest image as ``upscale`` does, for kernels that are known: (N, 1, k, k), or one for all."""
        with self._cast(lr):
            return self._restore(lr, kernel).float()
