"""How long threads look for work before they sleep: ``python -m tests.benchmarks.many.waiting_threads``.

Each process runs a network on all cores, a checkpoint in torch with another GOMP_SPINCOUNT, an ONNX file in a session
with or without spinning, in turns: on a quiet machine, and next to as many busy processes as there are cores.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click

from drc_deploy.runtime.backends.pytorch.waiting_threads import VARIABLE
from drc_deploy.runtime.memory.host import usable_cores

_RUN = """
import sys, time
import numpy as np
from drc_deploy.locate import find_engine
from drc_deploy.runtime.upscaler import Upscaler
from pathlib import Path
with Upscaler.open(find_engine(sys.argv[1], Path())) as upscaler:
    image = np.random.default_rng(0).integers(0, 256, (int(sys.argv[2]),) * 2 + (3,), np.uint8)
    upscaler(image)
    start, count = time.monotonic(), 0
    while (taken := time.monotonic() - start) < float(sys.argv[3]):
        upscaler(image)
        count += 1
print(taken / count)
"""
_RUN_ONNX = """
import sys, time
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[5])
options.add_session_config_entry("session.intra_op.allow_spinning", sys.argv[4])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feeds = {session.get_inputs()[0].name: np.zeros((1, int(sys.argv[2]), int(sys.argv[2]), 3), np.uint8)}
session.run(None, feeds)
start, count = time.monotonic(), 0
while (taken := time.monotonic() - start) < float(sys.argv[3]):
    session.run(None, feeds)
    count += 1
print(taken / count)
"""
_LIBRARY = "as the library has it"


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep cores busy while the block runs."""
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(process.kill)
        yield


@click.command()
@click.option("--engine", default="drn_xs", show_default=True)
@click.option("--side", default=64, show_default=True, help="Of an image, in pixels.")
@click.option("--spins", type=int, multiple=True, default=(0, 1000, 10_000), show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="For each setting in each turn.")
@click.option("--turns", default=7, show_default=True)
def main(engine: str, side: int, spins: tuple[int, ...], seconds: float, turns: int) -> None:
    """Print milliseconds an image, and the speed against that of the library's own setting in the same turn."""
    for count in (0, usable_cores()):
        code, settings = _RUN_ONNX, {_LIBRARY: "1", "asleep": "0"}
        if not engine.endswith(".onnx"):
            code, settings = _RUN, {_LIBRARY: "300000", **{f"{number} times": str(number) for number in spins}}
        times: dict[str, list[float]] = {name: [] for name in settings}
        with busy(count):
            for _ in range(turns):
                for name, number in settings.items():
                    words = [engine, str(side), str(seconds), number, str(usable_cores())]
                    command = [sys.executable, "-c", code, *words]
                    done = subprocess.run(
                        command, env={**os.environ, VARIABLE: number}, capture_output=True, text=True, check=True
                    )
                    times[name].append(1000 * float(done.stdout))
        click.echo(f"{engine}, {side}x{side}, next to {count} busy processes:")
        for name, found in times.items():
            ratios = [library / mine for library, mine in zip(times[_LIBRARY], found, strict=True)]
            click.echo(
                f"  {name:<22}{statistics.median(found):8.1f} ms  {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f}) times as fast"
            )


if __name__ == "__main__":
    main()
