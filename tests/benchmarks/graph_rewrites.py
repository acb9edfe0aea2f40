"""What the rewrites of the exported graph buy in ONNX Runtime on a CPU: ``python -m tests.benchmarks.graph_rewrites``.

The graph as it was traced, with the enlargement rewritten, and with the 1x1 convolutions folded as well run in turns in
one process. With one thread it is processor time that counts, which other work on the machine hardly changes.
"""

import time
from functools import partial

import click
import numpy as np
import onnx
import onnxruntime

from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.export.compare.reference import pixel_network
from drc_deploy.export.compare.samples import tile_batch
from drc_deploy.export.graph.cubic import replace_cubic_resizes
from drc_deploy.export.graph.graph import simplify_graph, trace_graph
from drc_deploy.locate import SHIPPED
from tests.benchmarks.turns import ratios_text

SIZES = ((128, 128), (180, 320))


@click.command()
@click.option("--model", "models", default=["drn_xs", "drn_s"], show_default=True, multiple=True)
@click.option("--threads", default=[1, 2], show_default=True, multiple=True)
@click.option("--turns", default=9, show_default=True)
def main(models: tuple[str, ...], threads: tuple[int, ...], turns: int) -> None:
    """Print, for every model, size and number of threads, medians and the time in parts of the traced graph's."""
    for model in models:
        graphs = _graphs(model)
        for height, width in SIZES:
            pixels = tile_batch(1, height, width).astype(np.float32)
            for count in threads:
                sessions = {name: _session(graph, count) for name, graph in graphs.items()}
                clock = time.process_time if count == 1 else time.perf_counter
                work = {name: partial(each.run, None, {"lr": pixels}) for name, each in sessions.items()}
                found = ratios_text(work, turns=turns, clock=clock)
                click.echo(f"{model} {height}x{width}, {count} threads: {found}")


def _graphs(name: str) -> dict[str, onnx.ModelProto]:
    network = load_checkpoint(SHIPPED / f"{name}.safetensors").build_network()
    traced = trace_graph(pixel_network(network))
    cubic, folded = onnx.ModelProto(), onnx.ModelProto()
    cubic.CopyFrom(traced)
    folded.CopyFrom(traced)
    replace_cubic_resizes(cubic)
    simplify_graph(folded)
    return {"traced": traced, "cubic": cubic, "folded": folded}


def _session(graph: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False  # as the runtime has it
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
