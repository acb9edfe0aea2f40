"""What INT8 saves in ONNX Runtime on a CPU: ``python -m tests.benchmarks.int8``.

The float32 graph, the INT8 graph for a CPU and the one for TensorRT run in turns in one process, in sessions as the
runtime opens them. The ratio is the median of the turns' own ratios of time; its spread are their quartiles. On a busy
machine take one thread, whose time is then that of the processor.
"""

import statistics
import time
from collections.abc import Callable

import click
import numpy as np
import onnx
import onnxruntime

from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.export.compare.reference import pixel_network
from drc_deploy.export.compare.samples import tile_batch
from drc_deploy.export.graph.graph import simplify_graph, trace_graph
from drc_deploy.export.precision.int8 import choose_int8
from drc_deploy.locate import SHIPPED
from drc_deploy.runtime.backends.ort.providers import session_options


@click.command()
@click.option("--model", "models", default=["drn_xs", "drn_s"], show_default=True, multiple=True)
@click.option("--side", default=96, show_default=True, help="Of the input, in pixels.")
@click.option("--turns", default=9, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(models: tuple[str, ...], side: int, turns: int, threads: int) -> None:
    """Print, for every model, size, time and time in parts of float32's."""
    clock = time.process_time if threads == 1 else time.perf_counter
    pixels = tile_batch(1, side, side).astype(np.float32)
    for model in models:
        graphs = _graphs(model)
        times = _times({name: _session(graph, threads) for name, graph in graphs.items()}, pixels, turns, clock)
        for name, graph in graphs.items():
            ratios = [b / a for a, b in zip(times["float32"], times[name], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            click.echo(
                f"{model} {side}x{side} {name}: {graph.ByteSize() / 2**20:.2f} MiB, "
                f"{statistics.median(times[name]):.1f} ms, {middle:.2f} ({low:.2f} to {high:.2f})"
            )


def _graphs(name: str) -> dict[str, onnx.ModelProto]:
    network = load_checkpoint(SHIPPED / f"{name}.safetensors").build_network()
    float32 = trace_graph(pixel_network(network))
    simplify_graph(float32)
    return {
        "float32": float32,
        "int8 for a CPU": choose_int8(network, "cpu", None)[1],
        "int8 for TensorRT": choose_int8(network, "tensorrt", None)[1],
    }


def _session(graph: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    options = session_options(threads)
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _times(
    sessions: dict[str, onnxruntime.InferenceSession], pixels: np.ndarray, turns: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(turns + 1):
        for name, session in sessions.items():
            start = clock()
            session.run(None, {"lr": pixels})
            times[name].append(1000 * (clock() - start))
    return {name: samples[1:] for name, samples in times.items()}


if __name__ == "__main__":
    main()
