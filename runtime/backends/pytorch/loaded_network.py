"""The network of a checkpoint as torch runs it: on which device, in which precision and layout, in how much memory."""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from drc_deploy.checkpoint import Parent
from drc_deploy.engine_info import EngineInfo, Precision
from drc_deploy.errors import ArtefactError
from drc_deploy.models.blind import BlindNetwork
from drc_deploy.models.network import SRNetwork, lay_channels_last
from drc_deploy.torch_gpu import prepare_gpu

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
SIDE_PX = 64
"""Of the input whose memory is followed, or more where the network needs that; the count per pixel is the same."""
ALLOWANCE = 1.1
"""Between what is alive and what the process grows by (tests/benchmarks/torch_memory.py)."""


class TileNetwork:
    """Upscales tiles on the GPU when torch has one, else on the CPU; channels last, where convolutions are fastest.

    Attributes:
        device: Where tiles must lie.
        info: What the checkpoint holds, and the precision of the body.
        name: ``torch``, the device and the precision.
        network: The network itself.
    """

    def __init__(self, path: Path, precision: Precision) -> None:
        """Load ``path``.

        Raises:
            ArtefactError: it is no checkpoint.
            MissingDependencyError: the GPU does not compute in ``precision``.
        """
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        on_cpu = self.device.type == "cpu"
        if not on_cpu:
            prepare_gpu(precision)
        file = Parent.read(path)
        network = file.checkpoint.build_network()
        if precision != "fp32":
            network.cast_body(_DTYPES[precision])
        self.network = lay_channels_last(network.to(self.device))
        self.info = EngineInfo(
            model=self.network.spec.name,
            scale=self.network.scale,
            precision=precision,
            io_dtype="float32",
            tile=None,
            max_batch=1,
            receptive_field=self.network.receptive_field,
            global_operations=self.network.global_operations,
            params=self.network.parameter_count,
            widths=tuple(self.network.widths),
            checkpoint_sha256=file.sha256,
            # In float32 whatever the precision: on a CPU, kernels for 16 bits hold float32 too.
            cpu_bytes_per_pixel=_known_bytes_per_pixel(file.checkpoint.build_network()) if on_cpu else None,
            multiple_of=self.network.multiple_of,
            minimum=self.network.minimum,
            kernel_size=self.network.kernel_size if isinstance(self.network, BlindNetwork) else None,
        )
        self.name = f"torch {'CPU' if on_cpu else torch.cuda.get_device_name(self.device)} {precision}"

    def __call__(self, tiles: Tensor, kernel: Tensor | None = None) -> Tensor:
        """Upscale (N, H, W, 3) float32 in [0, 255] to (N, scale*H, scale*W, 3) float32, in one piece of memory.

        Args:
            tiles: The images.
            kernel: (1, 1, k, k) float32 for a blind network; None: each tile gets its own.

        Raises:
            ArtefactError: torch refused, most likely for want of memory.
        """
        with torch.inference_mode(), errors_named(self.info, tuple(tiles.shape)):
            if kernel is None:
                images = self.network.upscale(_planes(tiles))
            else:
                images = self._blind.restore(_planes(tiles), kernel.to(self.device))
            return images.permute(0, 2, 3, 1).contiguous()

    def kernels(self, tiles: Tensor) -> Tensor:
        """Return the kernels that a blind network estimates, (N, 1, k, k) float32; see ``__call__``."""
        with torch.inference_mode(), errors_named(self.info, tuple(tiles.shape)):
            return self._blind.estimate(_planes(tiles))

    @property
    def _blind(self) -> BlindNetwork:
        assert isinstance(self.network, BlindNetwork)
        return self.network


def _planes(tiles: Tensor) -> Tensor:
    return tiles.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


@contextmanager
def errors_named(info: EngineInfo, shape: tuple[int, ...]) -> Iterator[None]:
    """Name the network and the input when torch fails in the block.

    Raises:
        ArtefactError: it did.
    """
    try:
        yield
    except Exception as error:  # a network of another program may raise anything
        raise ArtefactError(
            f"torch could not run {info.model} on an input of {shape}: {error}.",
            "If memory ran out, give a smaller --tile.",
        ) from error


def _known_bytes_per_pixel(network: SRNetwork) -> int | None:
    try:
        return bytes_per_pixel(lay_channels_last(network))
    except Exception:  # a network of another program may refuse an image of this side
        return None


def bytes_per_pixel(network: SRNetwork) -> int:
    """Return the most that is alive at a time while ``network``, on the CPU, upscales, with an allowance.

    The device "meta" would need no memory, but its first operation makes torch import its compiler: seconds.
    """
    side = network.taken_side(SIDE_PX)
    tile = torch.zeros(1, 3, side, side).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), _LiveBytes() as live:
        network.upscale(tile)
    return int(ALLOWANCE * live.peak / side**2)


_ONLY_SIZED = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)


def _sized(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return a result of the right size and layout: zeros where computing is slow, else what ``operation`` returns."""
    if operation is torch.ops.aten.conv2d.default and args[0].ndim == 4:
        return _size_of_conv2d(*args, **kwargs)
    if operation is torch.ops.aten.linear.default:
        return args[0].new_zeros(*args[0].shape[:-1], args[1].shape[0])
    return operation(*args, **kwargs)


def _size_of_conv2d(
    image: Tensor,
    weight: Tensor,
    _bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    _groups: int = 1,
) -> Tensor:
    sides = []
    for axis in (0, 1):
        step, margin, by = (pair[axis % len(pair)] for pair in (stride, padding, dilation))  # of one number or two
        reach = by * (weight.shape[2 + axis] - 1) + 1
        sides.append((image.shape[2 + axis] + 2 * margin - reach) // step + 1)
    shape = (image.shape[0], weight.shape[0], *sides)
    return torch.empty(shape, dtype=image.dtype, memory_format=torch.channels_last).zero_()


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every tensor from the operation that makes it until nothing refers to it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._sizes: dict[int, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False, else torch imports its compiler for ``__torch_dispatch__``."""
        return False

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if operation not in _ONLY_SIZED:
            with self:  # what is made of other operations holds what they hold
                result = operation.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        result = _sized(operation, args, kwargs or {})
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.peak = max(self.peak, sum(self._sizes.values()))
            weakref.finalize(storage, self._sizes.pop, key, None)
