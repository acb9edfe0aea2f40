"""A service under load: ``python -m tests.benchmarks.many.service_load``.

Callers send photographs of random sizes, each the next one when it has its answer, and the same images go through the
network alone, in turns. Every request must have an answer; where the queue is full that is 503, and is asked again.
"""

import asyncio
import io
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.images.finding import list_images
from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import SAMPLES, find_engine
from drc_deploy.runtime.memory.host import usable_cores
from drc_deploy.runtime.upscaler import Upscaler

_SIDES = (100, 400)
NO_ANSWER = 0
_ALONE = 20.0
"""The most seconds that the network alone is measured in a turn."""
_PARTS = 6
"""Of the time, each with the most memory that was used in it."""


@dataclass
class Load:
    """What callers saw."""

    pixels: int = 0
    seconds: list[float] = field(default_factory=list)
    sent_away: int = 0
    without_answer: int = 0
    other_answers: Counter[int] = field(default_factory=Counter)
    """Neither an image nor 503, by their status."""
    resident: list[float] = field(default_factory=list)


def images(seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield cuts of photographs, of random sizes and places."""
    rng = np.random.default_rng(seed)
    photographs = [read_rgb(path) for path in list_images(SAMPLES)]
    while True:
        photograph = photographs[rng.integers(len(photographs))]
        height, width = np.minimum(rng.integers(*_SIDES, 2), photograph.shape[:2])
        top, left = (rng.integers(side - cut + 1) for side, cut in zip(photograph.shape, (height, width), strict=False))
        yield np.ascontiguousarray(photograph[top : top + height, left : left + width])


@contextmanager
def serving(engine: str) -> Iterator[str]:
    """Start a service in a process of its own, and return its address."""
    command = [sys.executable, "-m", "drc_deploy", "serve", engine, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        line = ""
        while "Serving at" not in line:
            line = process.stderr.readline()
            assert line, "the service has ended"
        try:
            yield line.split()[2]
        finally:
            process.terminate()


async def call(address: str, callers: int, until: float, load: Load) -> None:
    """Send requests until a time, from many callers, and count what comes back."""

    async def caller(client: httpx.AsyncClient, number: int) -> None:
        for image in images(number):
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "JPEG", quality=95)
            start = time.monotonic()
            while (status := await ask(client, stream.getvalue())) == 503:
                load.sent_away += 1
                await asyncio.sleep(1)
            load.seconds.append(time.monotonic() - start)
            load.without_answer += status == NO_ANSWER
            load.other_answers.update({status} - {NO_ANSWER, 200})
            load.pixels += image.shape[0] * image.shape[1]
            if time.monotonic() > until:
                return

    async def ask(client: httpx.AsyncClient, content: bytes) -> int:
        try:
            return (await client.post("/v1/upscale", params={"format": "jpg"}, content=content)).status_code
        except httpx.HTTPError as error:
            click.echo(f"{type(error).__name__}: {error}", err=True)
            return NO_ANSWER

    async def watch(client: httpx.AsyncClient) -> None:
        while time.monotonic() < until:
            lines = (await client.get("/metrics")).text.splitlines()
            load.resident += [float(line.split()[1]) for line in lines if line.startswith("drc_deploy_resident_bytes")]
            await asyncio.sleep(1)

    limits = httpx.Limits(max_connections=callers + 1)
    async with httpx.AsyncClient(base_url=address, timeout=600, limits=limits) as client:
        await asyncio.gather(watch(client), *(caller(client, number) for number in range(callers)))


def alone(upscaler: Upscaler, seconds: float, seed: int) -> float:
    """Return the input pixels per second of the network alone, one image after the other."""
    start, pixels = time.monotonic(), 0
    for image in images(seed):
        upscaler(image)
        pixels += image.shape[0] * image.shape[1]
        if (taken := time.monotonic() - start) > seconds:
            return float(pixels / taken)
    raise AssertionError


@click.command()
@click.option("--engine", default="drn_e", show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="Of load in all, for each number of callers.")
@click.option("--turns", default=3, show_default=True)
@click.option("--callers", "numbers", type=int, multiple=True, help="Default: as many as cores, and 50 times as many.")
def main(engine: str, seconds: float, turns: int, numbers: tuple[int, ...]) -> None:
    """Print throughput next to the network alone, latency, and memory."""
    cores = usable_cores()
    with serving(engine) as address, Upscaler.open(find_engine(engine, Path())) as upscaler:
        alone(upscaler, 2, 0)
        for callers in numbers or (cores, 50 * cores):
            load, ratios = Load(), []
            for turn in range(turns):
                rate = alone(upscaler, min(seconds / turns, _ALONE), turn)
                before, start = load.pixels, time.monotonic()
                asyncio.run(call(address, callers, start + seconds / turns, load))
                ratios.append((load.pixels - before) / (time.monotonic() - start) / rate)
            median, p99 = statistics.median(load.seconds), np.percentile(load.seconds, 99)
            click.echo(
                f"{callers} callers: {len(load.seconds)} requests, {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f}) of the network alone, median {median:.2f} s, "
                f"p99 {p99:.2f} s, {load.sent_away} sent away, {load.without_answer} without an answer, "
                f"other answers: {dict(load.other_answers) or 'none'}"
            )
            parts = (max(part) / 2**20 for part in np.array_split(load.resident, _PARTS))
            click.echo(f"  memory: at most {', '.join(f'{part:.0f}' for part in parts)} MiB in each sixth of the time")
            if load.without_answer:
                raise click.ClickException("requests were lost.")


if __name__ == "__main__":
    main()
