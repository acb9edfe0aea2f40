"""How long each layer of an engine takes, from a few runs of its own after everything else was measured.

Profiling slows an engine down, so it never runs during the timing: it loads the file once more and measures shares.
"""

import itertools
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drc_deploy.engine_info import INPUT_NAME
from drc_deploy.files import scratch_folder
from drc_deploy.images.crops import fit_to_size
from drc_deploy.metrics import UInt8Image
from drc_deploy.runtime.backends.contract import Backend, LayerRun, Pixels

LARGEST_PX = 128
"""Longest side of the profiled input: the shares hardly depend on it, the time does."""
RUNS = 5
LIMIT_S = 3.0
"""No further run begins after this time; two are always made, and the first is discarded."""
ONNX_ON_CPU = "ONNX Runtime CPUExecutionProvider"
KERNEL = "_kernel_time"

WHY_NOT = {
    "ONNX Runtime CUDA": "ONNX Runtime's profile of a GPU records when its kernels were queued, not how long they took",
    "ONNX Runtime OpenVINO": "OpenVINO computes the whole graph as one node of ONNX Runtime",
    "torch": "a checkpoint runs as a whole; export it to see its layers",
}
"""Beginning of the name of a device -> why its layers are unknown."""


@dataclass(frozen=True, slots=True)
class LayerTime:
    """One node of the graph as the library runs it, fused with others where it fuses."""

    name: str
    operation: str
    fastest_ms: float
    """Of a few runs: another program that takes the processor for a moment hits one layer of a run, and hard."""


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """The layers of one engine."""

    layers: tuple[LayerTime, ...]
    """In the order in which they ran; empty where the backend does not report them."""
    note: str
    """How they were measured, or why they were not."""


def unknown_layers(reason: str) -> LayerProfile:
    """Return the profile of an engine whose layers are unknown."""
    return LayerProfile((), f"unavailable: {reason.rstrip('.')}")


def profile_layers(path: Path, backend: Backend, image: UInt8Image, threads: int | None) -> LayerProfile:
    """Profile an engine.

    Args:
        path: its file, which ONNX Runtime loads once more: a session is profiled from its start or not at all.
        backend: the engine, which TensorRT profiles as it is.
        image: (H, W, 3) uint8 RGB; its middle is used.
        threads: CPU threads; None leaves the choice to the library.

    Raises:
        ArtefactError: the library refused to compute.
        OSError: the library's profile cannot be written or read.
    """
    device, info = backend.device, backend.info
    height, width = info.taken_sides(*(min(side, LARGEST_PX) for side in image.shape[:2]))
    batch = fit_to_size(image, height, width)[np.newaxis].astype(info.io_dtype)
    if device == ONNX_ON_CPU:
        layers, runs = _profile_onnx(path, batch, threads)
        whose = "ONNX Runtime's own profile"
    elif found := backend.time_layers(batch, RUNS + 1):
        layers, runs = fastest_layers(found), RUNS
        whose = "The library's own profile, without CUDA graphs,"
    else:
        why = (reason for start, reason in WHY_NOT.items() if device.startswith(start))
        return unknown_layers(next(why, f"{device} does not report them"))
    what = f"the fastest of {runs} runs of each layer, on {width}x{height} pixels"
    return LayerProfile(layers, f"{whose} after the timing: {what}")


def fastest_layers(runs: Sequence[Sequence[LayerRun]]) -> tuple[LayerTime, ...]:
    """Return the layers of several runs of the same network; the first run counts for nothing."""
    return tuple(
        LayerTime(same[0].name, same[0].operation, min(layer.ms for layer in same))
        for same in zip(*runs[1:], strict=True)
    )


def _profile_onnx(path: Path, batch: Pixels, threads: int | None) -> tuple[tuple[LayerTime, ...], int]:
    """Return the layers, and how many runs count."""
    from drc_deploy.runtime.backends.ort.providers import CPU, import_onnxruntime

    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.enable_mem_pattern = False  # as the engine that was timed
    if threads is not None:
        options.intra_op_num_threads = threads
    with scratch_folder() as folder:
        options.profile_file_prefix = str(folder / "layers")
        session = ort.InferenceSession(str(path), options, providers=[CPU])
        start = time.perf_counter()
        for run in itertools.count(1):
            session.run(None, {INPUT_NAME: batch})
            if run > RUNS or (run > 1 and time.perf_counter() - start > LIMIT_S):
                break
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return layer_times(events), run - 1


def layer_times(events: Iterable[dict[str, Any]]) -> tuple[LayerTime, ...]:
    """Return the layers in a profile of ONNX Runtime; the first run of each counts for nothing.

    Args:
        events: of the profile; ``dur`` is in microseconds.
    """
    samples: dict[tuple[str, str, str], list[float]] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(KERNEL):
            node = event["args"]
            key = event["name"].removesuffix(KERNEL), node["op_name"], node["node_index"]
            samples.setdefault(key, []).append(event["dur"] / 1000)
    return tuple(
        LayerTime(name, operation, min(times[1:])) for (name, operation, _), times in samples.items() if len(times) > 1
    )
