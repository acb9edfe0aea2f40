"""Other runtimes on the same network and tiles: ``python -m tests.benchmarks.other_programs drn_xs drn_s``.

Each runtime has a process of its own with all cores, and computes the same tiles when its turn comes. OpenVINO reads
our ONNX; ncnn gets the network as torch traces it, converted by pnnx, so that rounding to 8-bit pixels is left out of
its time. What is not installed is left out: ``pip install openvino``, ``pip install --no-deps ncnn pnnx``. The
difference to our result is printed, since a converter may compute wrongly: a time beside "WRONG" means nothing.
"""

import importlib
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from drc_deploy.engine_info import INPUT_NAME, OUTPUT_NAME
from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import find_checkpoint, sample_images
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.memory.host import resident_bytes, usable_cores

MIB = 1 << 20
Compute = Callable[[Pixels], Pixels]
"""(N, H, W, 3) uint8 tiles -> results (N, 4*H, 4*W, 3) in [0, 255]."""
LARGEST_DIFFERENCE = 1.5
"""In grey levels: rounding twice is no fault."""


def ours(engine: Path) -> Compute:
    """Our own runtime."""
    from drc_deploy.runtime.backends.ort.backend import OnnxRuntimeBackend

    backend = OnnxRuntimeBackend(engine)
    return lambda tiles: np.concatenate(list(backend.stream(tiles[i : i + 1] for i in range(len(tiles)))))


def bare(engine: Path) -> Compute:
    """ONNX Runtime with all cores on one tile after the other."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(engine), providers=["CPUExecutionProvider"])

    def compute(tiles: Pixels) -> Pixels:
        results = [session.run([OUTPUT_NAME], {INPUT_NAME: tiles[i : i + 1]})[0] for i in range(len(tiles))]
        return np.concatenate(results)

    return compute


def openvino(engine: Path, hint: str = "LATENCY") -> Compute:
    """OpenVINO in float32 on a fixed tile."""
    library: Any = importlib.import_module("openvino")
    core = library.Core()
    options = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    compiled: dict[tuple[int, ...], Any] = {}

    def compute(tiles: Pixels) -> Pixels:
        shape = (1, *tiles.shape[1:])
        if shape not in compiled:
            model = core.read_model(str(engine))
            model.reshape(list(shape))
            compiled[shape] = core.compile_model(model, "CPU", options)
        results: list[Pixels] = [np.empty(0)] * len(tiles)
        queue = library.AsyncInferQueue(compiled[shape])

        def keep(request: Any, index: int) -> None:
            results[index] = request.get_output_tensor().data.copy()

        queue.set_callback(keep)
        for index in range(len(tiles)):
            queue.start_async({INPUT_NAME: tiles[index : index + 1]}, index)
        queue.wait_all()
        return np.concatenate(results)

    return compute


def openvino_streams(engine: Path) -> Compute:
    """OpenVINO with as many tiles at a time as it likes."""
    return openvino(engine, "THROUGHPUT")


def ncnn(engine: Path) -> Compute:
    """Run what ``convert_for_ncnn`` wrote, in ncnn with float32 weights and activations."""
    library: Any = importlib.import_module("ncnn")
    net = library.Net()
    net.opt.num_threads = usable_cores()
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    net.load_param(str(engine.with_suffix(".ncnn.param")))
    net.load_model(str(engine.with_suffix(".ncnn.bin")))

    def upscaled(tile: Pixels) -> Pixels:
        planes = np.ascontiguousarray(tile.transpose(2, 0, 1), np.float32)
        extractor = net.create_extractor()
        extractor.input("in0", library.Mat(planes))
        result: Pixels = np.array(extractor.extract("out0")[1]).transpose(1, 2, 0)
        return result

    return lambda tiles: np.stack([upscaled(tile) for tile in tiles])


RUNTIMES: dict[str, Callable[[Path], Compute]] = {
    "drc-deploy": ours,
    "bare ONNX Runtime": bare,
    "OpenVINO": openvino,
    "OpenVINO, streams": openvino_streams,
    "ncnn": ncnn,
}
NEEDS = {"OpenVINO": ("openvino",), "OpenVINO, streams": ("openvino",), "ncnn": ("ncnn", "pnnx")}


def convert_for_ncnn(model: str, side: int, folder: Path) -> None:
    """Trace a network in torch, and convert it with pnnx to MODEL.ncnn.param and MODEL.ncnn.bin."""
    import torch

    from drc_deploy.checkpoint import load_checkpoint

    network = load_checkpoint(find_checkpoint(model, folder)).build_network().eval()

    class Upscale(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            return network.upscale(lr)

    with torch.no_grad():
        trace: Any = torch.jit.trace
        trace(Upscale(), torch.full((1, 3, side, side), 127.0), check_trace=False).save(str(folder / f"{model}.pt"))
    converter = Path(importlib.import_module("pnnx").__file__ or "").with_name("pnnx")
    command = [str(converter), f"{model}.pt", f"inputshape=[1,3,{side},{side}]", "fp16=0"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def photograph_tiles(side: int, count: int) -> Pixels:
    """Give (count, side, side, 3) uint8 of the photographs that ship."""
    photographs = [read_rgb(path) for path in sample_images()]
    return np.stack([photographs[i % len(photographs)][:side, i * 8 : i * 8 + side] for i in range(count)])


def work(runtime: str, engine: Path, side: int, count: int) -> None:
    """Be a runtime: write the result to a file, then compute whenever a line comes, and tell seconds and peak bytes."""
    compute, tiles = RUNTIMES[runtime](engine), photograph_tiles(side, count)
    np.save(engine.with_name(f"{runtime}.npy"), compute(tiles))
    for _ in sys.stdin:
        start = time.perf_counter()
        compute(tiles)
        print(json.dumps([time.perf_counter() - start, resident_bytes(peak=True)]), flush=True)  # noqa: T201


@contextmanager
def worker(runtime: str, engine: Path, side: int, count: int) -> Iterator[Callable[[], tuple[float, int]]]:
    """Start a process for a runtime; give what makes it compute and tells seconds and peak bytes."""
    command = [sys.executable, "-m", "tests.benchmarks.other_programs", "--work", runtime, str(engine)]
    command += ["--side", str(side), "--count", str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        commands, answers = process.stdin, process.stdout

        def turn() -> tuple[float, int]:
            commands.write("\n")
            commands.flush()
            seconds, peak = json.loads(answers.readline())
            return seconds, peak

        yield turn
        commands.close()


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--side", default=128, show_default=True, help="Of a tile, in input pixels.")
@click.option("--count", default=4, show_default=True, help="Tiles in a turn.")
@click.option("--turns", default=5, show_default=True)
@click.option("--work", "runtime", hidden=True)
def main(models: tuple[str, ...], side: int, count: int, turns: int, runtime: str | None) -> None:
    """Print time, ratio to bare ONNX Runtime, peak memory and difference of each runtime, for shipped networks."""
    if runtime:
        work(runtime, Path(models[0]), side, count)
        return
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            compare(model, Path(folder), side, count, turns)


def compare(model: str, folder: Path, side: int, count: int, turns: int) -> None:
    """Export a network, run it in turns in all runtimes, and print the table."""
    command = [sys.executable, "-m", "drc_deploy", "export", model, "--workdir", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    engine = folder / f"{model}.onnx"
    missing = {name for name in RUNTIMES if any(importlib.util.find_spec(need) is None for need in NEEDS.get(name, ()))}
    if "ncnn" not in missing:
        convert_for_ncnn(model, side, folder)
    names = [name for name in RUNTIMES if name not in missing]
    with ExitStack() as stack:
        workers = {name: stack.enter_context(worker(name, engine, side, count)) for name in names}
        figures = [{name: workers[name]() for name in names} for _ in range(turns + 1)][1:]
    click.echo(f"{model}, {count} tiles of {side}x{side} in a turn, {usable_cores()} cores, {turns} turns")
    click.echo(f"{'':<20}{'ms a tile':>10}{'times the rate of bare':>28}{'peak MiB':>10}  largest difference")
    for name in RUNTIMES:
        click.echo(
            f"{name:<20}" + ("  not installed" if name in missing else figures_line(name, figures, folder, count))
        )


def figures_line(name: str, figures: list[dict[str, tuple[float, int]]], folder: Path, count: int) -> str:
    """Return what was measured of one runtime."""
    ms = statistics.median(1000 * turn[name][0] / count for turn in figures)
    ratios = [turn["bare ONNX Runtime"][0] / turn[name][0] for turn in figures]
    rate = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    expected = np.load(folder / "drc-deploy.npy").astype(np.float32)
    difference = float(np.abs(np.clip(np.load(folder / f"{name}.npy"), 0, 255) - expected).max())
    verdict = f"{difference:.2f}" if difference <= LARGEST_DIFFERENCE else f"{difference:.2f} WRONG"
    return f"{ms:>10.1f}{rate:>28}{figures[-1][name][1] / MIB:>10.0f}  {verdict}"


if __name__ == "__main__":
    main()
