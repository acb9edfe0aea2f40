"""Measurements of an engine besides its latency: the network alone, throughput, stability, memory, fidelity.

A figure that a machine or backend does not report is None, and a note says why.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drc_deploy.bench.machine.memory import MemorySplit
from drc_deploy.bench.measure.engine_timing import EngineRound, StreamRound, Workload
from drc_deploy.bench.measure.fidelity import SeamError, TorchAgreement
from drc_deploy.bench.measure.intervals import Interval, centre, signed_rank_interval
from drc_deploy.bench.measure.latency import Latency, round_medians, summarise
from drc_deploy.bench.measure.stability import Stability
from drc_deploy.runtime.backends.contract import DeviceTimes

ENQUEUE_LIMIT = 0.8
COMPUTE_SPREAD_LIMIT = 0.025
"""Limits of trtexec (sampleReporting.cpp): above them it warns. Its fourth warning, of several streams at a time, has
no place here: latencies are taken of one batch at a time."""


@dataclass(frozen=True, slots=True)
class DeviceSplit:
    """One batch by the device's own clock; medians over all runs, in milliseconds."""

    upload_ms: float
    compute_ms: float
    download_ms: float
    enqueue_ms: float
    """That the host took to queue the computation."""
    samples_ms: tuple[tuple[float, float, float, float], ...]
    """Upload, compute, download and enqueue of each run."""
    checks: tuple[str, ...]
    """What trtexec would warn of."""


@dataclass(frozen=True, slots=True)
class EngineOnly:
    """The network alone: one batch in memory to its result in memory, the next one when it is there."""

    batch_shape: tuple[int, int, int, int]
    """(N, H, W, 3)."""
    batches_per_image: int
    latency: Latency
    """Of one batch."""
    image_rounds_ms: tuple[tuple[float, ...], ...]
    """Runs of all batches of an image in a stream, by round; the same as of one batch where there is only one."""
    host_share: float
    """Part of the time from image to image that is not the network's; below 0 where noise is larger."""
    host_share_interval: Interval | None
    split: DeviceSplit | None
    split_note: str


@dataclass(frozen=True, slots=True)
class StreamThroughput:
    """Many images without a pause, as many batches at a time as the backend takes; tiles are cut beforehand."""

    rounds: tuple[StreamRound, ...]
    images_per_second: float
    images_per_second_interval: Interval | None
    output_megapixels_per_second: float
    workers: int
    """Batches that the backend computes at a time."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """All of it, for one engine."""

    engine_only: EngineOnly
    throughput: StreamThroughput
    stability: Stability
    memory: MemorySplit
    torch: TorchAgreement
    seam: SeamError


def summarise_network(workload: Workload, rounds: Sequence[EngineRound], end_to_end: Latency) -> EngineOnly:
    """Return the statistics of a network alone, compared with those from image to image of the same rounds."""
    times = [times for item in rounds for times in item.device_times]
    images = [float(np.median(item.image_ms)) for item in rounds]
    shares = [1 - image / whole for image, whole in zip(images, round_medians(end_to_end), strict=True)]
    return EngineOnly(
        batch_shape=workload.batch_shape,
        batches_per_image=workload.batches_per_image,
        latency=summarise([item.batch_ms for item in rounds], workload.calls),
        image_rounds_ms=tuple(item.image_ms for item in rounds),
        host_share=centre(shares),
        host_share_interval=signed_rank_interval(shares),
        split=_split(times) if times else None,
        split_note="events on the device's stream, one batch at a time"
        if times
        else "unavailable: this backend has no events of a device",
    )


def summarise_streams(rounds: Sequence[StreamRound], output_px: int, workers: int) -> StreamThroughput:
    """Return the throughput; ``output_px`` are the pixels of one upscaled image."""
    rates = [item.images / item.seconds for item in rounds]
    rate = centre(rates)
    return StreamThroughput(tuple(rounds), rate, signed_rank_interval(rates), rate * output_px / 1e6, workers)


def _split(times: Sequence[DeviceTimes]) -> DeviceSplit:
    samples = tuple((item.upload_ms, item.compute_ms, item.download_ms, item.enqueue_ms) for item in times)
    upload, compute, download, enqueue = (statistics.median(values) for values in zip(*samples, strict=True))
    spread = float(np.std([item.compute_ms for item in times]) / np.mean([item.compute_ms for item in times]))
    checks = []
    if enqueue > ENQUEUE_LIMIT * compute:
        checks.append("host-bound: queuing takes more than 0.8 of computing; the host, not the GPU, sets the pace")
    checks += [
        f"the {name} takes as long as computing: the bus sets the pace of a stream"
        for name, copy_ms in (("upload", upload), ("download", download))
        if copy_ms >= compute
    ]
    if spread > COMPUTE_SPREAD_LIMIT:
        checks.append(f"computing spreads by {spread:.1%} of its mean: lock the clocks of the GPU")
    return DeviceSplit(upload, compute, download, enqueue, samples, tuple(checks))
