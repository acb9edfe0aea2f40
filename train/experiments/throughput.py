"""How fast training runs here, against the usual way and against what the machine can compute at most."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from drc_deploy.files import scratch_folder
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.progress import progress
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.data.png_loader import png_batches, write_pngs
from drc_deploy.train.device import memory_checked, time_when_done, training_device
from drc_deploy.train.loop.run_options import TrainingPrecision, TrainOptions
from drc_deploy.train.loop.trainer import Trainer

Operation = tuple[float, Callable[[], Tensor]]
"""FLOPs of one call, and the call."""
PEAK_SECONDS = 1.0
"""Time that each operation gets whose speed may be the peak."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_SIDES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
"""Of square matrices."""
_CHANNELS, _KERNEL = (64, 256), 3


@dataclass(frozen=True, slots=True)
class ThroughputOptions:
    """What is measured, and for how long."""

    spec: ModelSpec
    batch: int
    patch: int
    """Side of a patch in LR pixels."""
    precision: TrainingPrecision
    """Of our training step; the DataLoader's is always float32."""
    seconds: float
    """Time measured in all."""
    workers: int
    """Processes of the DataLoader."""
    rounds: int = 5
    """How often the two take turns."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Speed of one way to train."""

    samples_per_s: float
    """Median over the rounds."""
    lowest: float
    highest: float
    step_ms: float
    """Mean time of one step, with its data."""
    data_share: float
    """Of the time: waiting for the batch."""


@dataclass(frozen=True, slots=True)
class TrainingThroughput:
    """What was measured."""

    device: str
    threads: int
    """CPU threads of the training process."""
    ours: Rate
    """Patches cut on the training device, in the precision asked for."""
    dataloader: Rate
    """PNG files through a DataLoader, eager float32."""
    ratio: float
    """Ours to the DataLoader's: median over the rounds."""
    lowest_ratio: float
    highest_ratio: float
    step_flops: int
    """Floating-point operations of one step, forward and backward; a multiply-add counts two."""
    peak_flops_per_s: float
    """Of the fastest of some large products and convolutions, in the precision asked for."""
    share_of_peak: float
    """Our step, its data included, against that peak."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to train."""

    batches: Iterator[Sequence[Tensor]]
    update: Callable[[Sequence[Tensor]], None]
    warm_up: int
    """Steps before each measurement: they fill or empty the queue that filled while the other way ran."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """One measurement of one way."""

    steps: int
    seconds: float
    waiting: float


def measure_throughput(photographs: Photographs, options: ThroughputOptions) -> TrainingThroughput:
    """Train in two ways by turns, in this process.

    Args:
        photographs: With room for a patch each (``Photographs.usable``).
        options: What to measure.

    Raises:
        TrainingError: memory ran out.
        MissingDependencyError: the device does not compute in the precision asked for.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        stack.enter_context(memory_checked())
        files = write_pngs(photographs, options.spec.scale, folder)
        sampler = PatchSampler(photographs, scale=options.spec.scale, patch=options.patch, batch=options.batch, seed=1)
        stack.callback(sampler.close)
        trainer = _trainer(options, options.precision)
        flops = _count_flops(trainer, sampler.sample(0))
        plain = _trainer(options, "fp32")
        plain.replays = False
        peak = measure_peak(options.precision)
        loader = png_batches(files, patch=options.patch, batch=options.batch, workers=options.workers)
        ways = (
            _Way(map(sampler.sample, itertools.count()), trainer.update, warm_up=2),
            _Way(loader, plain.update, warm_up=2 + 2 * options.workers),
        )
        ours, theirs = _take_turns(ways, options)
    return _report(ours, theirs, options, flops=flops, peak=peak)


def _trainer(options: ThroughputOptions, precision: TrainingPrecision) -> Trainer:
    """Return a trainer with a network of its own."""
    network = build_network(options.spec)
    settings = TrainOptions(1, options.batch, options.patch, precision=precision)
    return Trainer(network, network.build_duals(), settings)


def _count_flops(trainer: Trainer, images: Sequence[Tensor]) -> int:
    # Launched: recording a graph takes several passes, and its replays are invisible here.
    replays, trainer.replays = trainer.replays, False
    with FlopCounterMode(display=False) as counter:
        trainer.update(images)
    trainer.replays = replays
    return int(counter.get_total_flops())


def _take_turns(ways: Sequence[_Way], options: ThroughputOptions) -> list[list[_Turn]]:
    """Return the turns of each way."""
    turns: list[list[_Turn]] = [[] for _ in ways]
    with progress("Measuring", options.rounds * len(ways)) as bar:
        for _ in range(options.rounds):
            for way, measured in zip(ways, turns, strict=True):
                measured.append(_measure(way, options.seconds / options.rounds / len(ways)))
                bar.advance()
    return turns


def _measure(way: _Way, seconds: float) -> _Turn:
    for _ in range(way.warm_up):
        way.update(next(way.batches))
    steps, waiting = 0, 0.0
    start = now = time_when_done()
    while now - start < seconds:
        batch = next(way.batches)
        waiting += time_when_done() - now
        way.update(batch)
        now = time_when_done()
        steps += 1
    return _Turn(steps, now - start, waiting)


def _report(
    ours: Sequence[_Turn], theirs: Sequence[_Turn], options: ThroughputOptions, *, flops: int, peak: float
) -> TrainingThroughput:
    ratios = [a.steps / a.seconds / (b.steps / b.seconds) for a, b in zip(ours, theirs, strict=True)]
    rate = _rate(ours, options.batch)
    return TrainingThroughput(
        device=torch.cuda.get_device_name() if training_device().type == "cuda" else "CPU",
        threads=torch.get_num_threads(),
        ours=rate,
        dataloader=_rate(theirs, options.batch),
        ratio=statistics.median(ratios),
        lowest_ratio=min(ratios),
        highest_ratio=max(ratios),
        step_flops=flops,
        peak_flops_per_s=peak,
        share_of_peak=flops / (rate.step_ms / 1000) / peak,
    )


def _rate(turns: Sequence[_Turn], batch: int) -> Rate:
    rates = [turn.steps * batch / turn.seconds for turn in turns]
    seconds = sum(turn.seconds for turn in turns)
    step_ms = 1000 * seconds / sum(turn.steps for turn in turns)
    data_share = sum(turn.waiting for turn in turns) / seconds
    return Rate(statistics.median(rates), min(rates), max(rates), step_ms, data_share)


def measure_peak(precision: TrainingPrecision) -> float:
    """Return the FLOP/s of the fastest of some large matrix products and convolutions; a multiply-add counts two."""
    device, dtype = training_device(), _DTYPES[precision]
    operations = [_product(side, device, dtype) for side in _SIDES[device.type]]
    operations += [_convolution(channels, device, dtype) for channels in _CHANNELS]
    with torch.no_grad():
        return max(flops / _fastest(run) for flops, run in operations)


def _product(side: int, device: torch.device, dtype: torch.dtype) -> Operation:
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2.0 * side**3, lambda: a @ b


def _convolution(channels: int, device: torch.device, dtype: torch.dtype) -> Operation:
    side, images = 64, 8 if device.type == "cpu" else 64
    x = torch.randn(images, channels, side, side, device=device, dtype=dtype)
    weight = torch.randn(channels, channels, _KERNEL, _KERNEL, device=device, dtype=dtype)
    x, weight = (tensor.to(memory_format=torch.channels_last) for tensor in (x, weight))
    flops = 2.0 * images * side**2 * channels**2 * _KERNEL**2
    return flops, lambda: F.conv2d(x, weight, padding=1)


def _fastest(run: Callable[[], Tensor]) -> float:
    """Return the shortest time of a call in seconds."""
    best, end = float("inf"), time.perf_counter() + PEAK_SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time_when_done() - start)
    return best
