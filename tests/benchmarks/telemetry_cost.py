"""What sampling beside a run costs it: ``python -m tests.benchmarks.telemetry_cost``.

An engine runs in a process of its own, as in ``drc-deploy bench``, in turns with and without a sampler in the parent.
The sampler reads a recorded Jetson, whose files here are plain ones: a real power monitor answers over I2C, which waits
longer and computes no more. The ratio is the median of the turns' own ratios; its spread are their quartiles.
"""

import statistics
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import click

from drc_deploy.bench.machine.telemetry.instruments import find_instruments
from drc_deploy.bench.machine.telemetry.sampler import Sampler
from drc_deploy.bench.machine.telemetry.trace import Track
from drc_deploy.bench.measure.timing import TimingBudget
from drc_deploy.bench.run.worker import EngineProcess, Session, open_file
from drc_deploy.images.crops import fit_to_size
from drc_deploy.locate import SHIPPED, sample_images
from drc_deploy.metrics import UInt8Image
from drc_deploy.pairs import Photograph
from tests.bench.machine.telemetry.trees import bare_system, build_tree


@click.command()
@click.option("--model", default="drn_xs", show_default=True)
@click.option("--tree", default="jetpack6_orin_nano", show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--turns", default=61, show_default=True)
@click.option("--seconds", default=0.3, show_default=True, help="Time of each turn.")
def main(model: str, tree: str, threads: int, turns: int, seconds: float) -> None:
    """Print latency with a sampler in parts of that without, and what the sampler took."""
    image = fit_to_size(Photograph(sample_images()[0]).load(4).lr, 64, 64)
    ratios: list[float] = []
    costs: list[Track] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        system = bare_system(build_tree(tree, Path(folder)))
        process = stack.enter_context(closing(EngineProcess(open_file(SHIPPED / f"{model}.safetensors", threads))))
        process.ask(Session.warm_up, [image])
        for turn in range(turns):
            before = None if turn % 2 else _median_ms(process, image, seconds)
            with Sampler(find_instruments(system).sources) as sampler:
                beside = _median_ms(process, image, seconds)
            ratios.append(beside / (before or _median_ms(process, image, seconds)))
            costs += sampler.trace().tracks
    low, middle, high = statistics.quantiles(ratios, n=4)
    sweep_ms = statistics.median(track.sweep_ms for track in costs)
    core = statistics.median(track.core_part for track in costs)
    sensors = len(costs[0].series)
    click.echo(
        f"latency with a sampler in parts of that without: {middle:.3f} ({low:.3f} to {high:.3f}), {turns} turns"
    )
    click.echo(f"{sensors} sensors: {sweep_ms:.2f} ms a sweep, {core:.2%} of one core at ten sweeps a second")


def _median_ms(process: EngineProcess, image: UInt8Image, seconds: float) -> float:
    return statistics.median(process.ask(Session.measure, [image], TimingBudget(3, seconds)).samples_ms)


if __name__ == "__main__":
    main()
