"""Timing each prunable layer of a model at several widths, on this machine."""

import contextlib
import copy
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from drc_deploy.errors import UsageError
from drc_deploy.latency_table import LatencyTable
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.registry import build_network
from drc_deploy.proc_files import cpu_name
from drc_deploy.progress import progress
from drc_deploy.train.device import memory_checked, place, time_when_done, training_device
from drc_deploy.train.pruning.partial_forward import Recorder
from drc_deploy.train.search.cost import times_of_weights
from drc_deploy.train.search.gates import convolution_like

SHARES = 8
"""Widths that are timed: so many equal shares of the full one."""
ROUNDS = 9
"""Timings of every width; all are taken in turns, so that a machine that slows down slows all of them."""
RUNS_ON_A_GPU = 20
"""Runs between two looks at the clock there: starting one and waiting for it takes longer than a layer."""
Timer = Callable[[Callable[[], object]], float]
"""Runs something once and gives the milliseconds that it took."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Producer and consumer of a prunable layer, as far as their time depends on it."""

    described: str
    """The modules as torch prints them, with all that shapes them: pairs that print alike take equal time."""
    group: int
    full_width: int
    height: int
    """Of the producer's input, as ``width``."""
    width: int
    modules: nn.Sequential = field(compare=False, repr=False)
    """Producer, what the network computes between the two, such as an activation, and consumer."""

    def build(self, kept: int) -> nn.Module:
        """Build the two convolutions with ``kept`` channels between them."""
        producer, *between, consumer = self.modules
        return nn.Sequential(
            convolution_like(producer, out_channels=kept * self.group),
            *copy.deepcopy(between),
            convolution_like(consumer, kept),
        )


def measure_latency(spec: ModelSpec, height: int, width: int, timer: Timer | None = None) -> LatencyTable:
    """Time the layers of an unpruned model in torch: in half precision on a GPU, in float32 on a CPU.

    Args:
        spec: The model; its widths play no part.
        height: Of the LR input.
        width: Of the LR input.
        timer: How a run is timed; None: by the clock, waiting for the device.

    Raises:
        UsageError: unknown model, or one with attention.
        TrainingError: memory ran out.
    """
    network = build_network(ModelSpec(spec.name, spec.scale))
    if any(part.repeats > 1 for layer in network.prunable_layers for part in layer.read):
        raise UsageError(
            f"{spec.name} has layers of attention, which are not timed one by one.", "Bound --target madds or params."
        )
    _place(network)
    lr = torch.rand(1, 3, height, width, device=training_device()) * 255
    with memory_checked("Give a smaller --size."), torch.no_grad():
        pairs = _pairs(network, lr)
        times, whole_ms = _time_all(sorted(set(pairs), key=str), network, lr, timer or _by_clock)
    in_pairs = [times[pair][-1][1] for pair in pairs]
    # A weight between two layers is timed with both, and counts once.
    alone_ms = sum(times_of_weights(network, in_pairs, height, width).values())
    # Alone, layers can take longer than within the network: they may not sum to more than it.
    within = min(alone_ms, whole_ms) / sum(in_pairs)
    points = tuple(tuple((channels, ms * within) for channels, ms in times[pair]) for pair in pairs)
    library = f"torch {torch.__version__}, {'float16' if lr.device.type == 'cuda' else 'float32'}"
    return LatencyTable(
        spec.name,
        spec.scale,
        this_device(),
        library,
        height,
        width,
        max(0.0, whole_ms - alone_ms),
        tuple(layer.name for layer in network.prunable_layers),
        points,
    )


def time_networks(specs: Sequence[ModelSpec], height: int, width: int, timer: Timer | None = None) -> list[float]:
    """Time networks on this machine, as ``measure_latency`` does, in turns: the median of each in milliseconds.

    Args:
        specs: With random weights, on which time does not depend.
        height: Of the LR input.
        width: Of the LR input.
        timer: As for ``measure_latency``.

    Raises:
        TrainingError: memory ran out.
    """
    networks = [build_network(spec) for spec in specs]
    for network in networks:
        _place(network)
    lr = torch.rand(1, 3, height, width, device=training_device()) * 255
    with memory_checked("Make the table for a smaller --size."), torch.no_grad():
        return _medians([partial(network.upscale, lr) for network in networks], timer or _by_clock, "Timing networks")


def this_device() -> str:
    """Name what is timed here: the GPU, or the processor with the number of threads in use."""
    if training_device().type == "cuda":
        return torch.cuda.get_device_name()
    return f"{cpu_name() or platform.machine()}, {torch.get_num_threads()} threads"


def _place(module: nn.Module) -> None:
    place(module).eval()
    if training_device().type == "cuda":
        if isinstance(module, SRNetwork):
            module.cast_body(torch.float16)
        else:
            module.half()


def _pairs(network: SRNetwork, lr: Tensor) -> list[_Pair]:
    """Return the pair of every prunable layer, from one forward pass."""
    with contextlib.ExitStack() as stack:
        recorders = [stack.enter_context(Recorder(network, layer.made[0].module)) for layer in network.prunable_layers]
        called = stack.enter_context(_calls(network))
        network.upscale(lr)
    pairs = []
    for layer, recorder in zip(network.prunable_layers, recorders, strict=True):
        producer, consumer = (network.convolution(part.module) for part in (layer.made[0], layer.read[0]))
        modules = nn.Sequential(*called[called.index(producer) : called.index(consumer) + 1])
        height, width = recorder.input.shape[-2:]
        pairs.append(_Pair(str(modules), layer.made[0].group, layer.full_width, height, width, modules))
    return pairs


@contextlib.contextmanager
def _calls(network: SRNetwork) -> Iterator[list[nn.Module]]:
    """List the modules without children in the order in which they are called in the block."""
    called: list[nn.Module] = []
    leaves = [module for module in network.modules() if not any(module.children())]
    handles = [leaf.register_forward_hook(lambda module, *_: called.append(module)) for leaf in leaves]
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()


def _time_all(
    pairs: list[_Pair], network: SRNetwork, lr: Tensor, timer: Timer
) -> tuple[dict[_Pair, tuple[tuple[int, float], ...]], float]:
    """Time every pair at every width, and the network; return (width, milliseconds) of each, and of the network."""
    cases = {(pair, width): _case(pair, width) for pair in pairs for width in _widths(pair.full_width)}
    *parts, whole = _medians([*cases.values(), partial(network.upscale, lr)], timer, "Timing layers")
    medians = dict(zip(cases, parts, strict=True))
    return {pair: _attainable(pair, medians) for pair in pairs}, whole


def _medians(runs: Sequence[Callable[[], object]], timer: Timer, label: str) -> list[float]:
    """Time each run in every round; return the median of each in milliseconds."""
    rounds = []
    with progress(label, ROUNDS + 1) as bar:
        for _ in range(ROUNDS + 1):
            rounds.append([timer(run) for run in runs])
            bar.advance()
    return [statistics.median(times) for times in zip(*rounds[1:], strict=True)]  # the first is the warm-up


def _widths(full: int) -> list[int]:
    return sorted({max(1, full * share // SHARES) for share in range(1, SHARES + 1)})


def _case(pair: _Pair, width: int) -> Callable[[], object]:
    module = pair.build(width)
    _place(module)
    weight = next(module.parameters())
    images = torch.rand(1, weight.shape[1], pair.height, pair.width, device=training_device())
    images = images.to(weight.dtype).contiguous(memory_format=torch.channels_last)
    return lambda: module(images)


def _attainable(pair: _Pair, medians: dict[tuple[_Pair, int], float]) -> tuple[tuple[int, float], ...]:
    """Return the times of one pair; a wider layer never has the smaller time.

    Narrower can be slower: GPU libraries have kernels for some widths and not for others. A narrow layer then counts
    as much as the wider one that it could be padded to, so that a search under a bound takes the wider one.
    """
    points: list[tuple[int, float]] = []
    for width in reversed(_widths(pair.full_width)):
        points.append((width, min(medians[pair, width], points[-1][1] if points else float("inf"))))
    return tuple(reversed(points))


def _by_clock(run: Callable[[], object]) -> float:
    count = RUNS_ON_A_GPU if training_device().type == "cuda" else 1
    start = time_when_done()
    for _ in range(count):
        run()
    return 1000 * (time_when_done() - start) / count
