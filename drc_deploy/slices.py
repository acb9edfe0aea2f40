"""Which parts of a network's tensors belong to the channels of a prunable layer. Needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Slice:
    """Where a layer's channels lie along one axis of a tensor: channel c at start + group * c, group indices long.

    With several repeats, all channels follow that many times, as for each head of attention.
    """

    tensor: str
    """Name in the network's state dict."""
    axis: int
    start: int = 0
    group: int = 1
    """Indices per channel: r*r where a PixelShuffle(r) lies between this tensor and the channels."""
    repeats: int = 1
    """Heads of attention, since each has all channels; not together with a group."""

    def __post_init__(self) -> None:
        """Refuse a channel that is spread in two ways."""
        if self.group > 1 and self.repeats > 1:
            raise ValueError(f"{self.tensor}: a channel is a group of neighbours or repeated, not both")

    def indices(self, channels: Sequence[int], width: int) -> list[int]:
        """Return the indices along the axis that belong to these channels of a layer of ``width`` channels."""
        starts = (self.start + width * repeat for repeat in range(self.repeats))
        return [start + self.group * c + offset for start in starts for c in channels for offset in range(self.group)]

    @property
    def indices_per_channel(self) -> int:
        """How many indices belong to one channel."""
        return self.group * self.repeats

    @property
    def module(self) -> str:
        """Name of the module that the tensor belongs to."""
        return self.tensor.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class PrunableLayer:
    """Channels that can be cut one by one, with all that makes and reads them."""

    name: str
    """Short name for people, for example ``stage0.block3``."""
    full_width: int
    """Channels in the unpruned network."""
    made: tuple[Slice, ...]
    """What makes the channels: outputs of weights with their biases, and factors of single channels on the way."""
    read: tuple[Slice, ...]
    """Inputs of the weights that read them, in the order of computation. Zeros there are as good as a cut, if there
    are no ``queries``."""
    queries: tuple[Slice, ...] = ()
    """Of ``made``, what makes the queries of attention. Their products with the keys are seen by all that is read: a
    channel is as good as cut where these are zero as well."""
    trunk: bool = False
    """Whether some weight reads the channels before another one adds to them, as along a residual trunk."""

    @property
    def slices(self) -> tuple[Slice, ...]:
        """All that goes with the channels."""
        return self.made + self.read

    @property
    def masking(self) -> tuple[Slice, ...]:
        """All whose zeros are as good as a cut."""
        return self.read + self.queries


def placed(layers: Sequence[PrunableLayer], widths: Sequence[int]) -> tuple[PrunableLayer, ...]:
    """Return the layers of an unpruned network as they lie in one of these widths, each with its width there.

    Where layers share an axis, as behind a concatenation, what is cut from one moves those behind it.
    """
    lost: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for layer, width in zip(layers, widths, strict=True):
        for s in layer.slices:
            lost.setdefault((s.tensor, s.axis), []).append(
                (s.start, s.indices_per_channel * (layer.full_width - width))
            )

    def moved(s: Slice) -> Slice:
        before = sum(count for start, count in lost[s.tensor, s.axis] if start < s.start)
        return replace(s, start=s.start - before)

    return tuple(
        replace(
            layer,
            full_width=width,
            made=tuple(map(moved, layer.made)),
            read=tuple(map(moved, layer.read)),
            queries=tuple(map(moved, layer.queries)),
        )
        for layer, width in zip(layers, widths, strict=True)
    )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Channels that are not offered for pruning."""

    name: str
    """Module that makes them; empty where it concerns the whole network."""
    reason: str
    """Half a sentence in plain words."""
