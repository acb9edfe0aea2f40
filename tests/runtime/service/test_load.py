"""A minute of many callers: no request is lost, and memory is flat."""

import asyncio
import statistics
import time
from pathlib import Path

import pytest

from tests.benchmarks.many.service_load import Load, call, serving
from tests.runtime.networks import write_nearest

SECONDS = 60
MOST_GROWTH = 64 << 20
"""Of the last third over the second. Hundreds of requests end in each: one image kept of each would be more. The
allocator's heaps, one a thread, grow by a third of this."""


@pytest.mark.slow
def test_no_request_of_a_minute_is_lost_and_memory_is_flat(tmp_path: Path) -> None:
    """With a network that takes no time, so that there are many."""
    write_nearest(tmp_path / "quick.onnx")
    load = Load()
    with serving(str(tmp_path / "quick.onnx")) as address:
        asyncio.run(call(address, 6, time.monotonic() + SECONDS, load))
    assert load.without_answer == 0
    assert len(load.seconds) > 100
    third = len(load.resident) // 3
    second, last = (statistics.median(load.resident[third * part : third * (part + 1)]) for part in (1, 2))
    assert last - second < MOST_GROWTH
