import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drc_deploy.runtime.jobs.pipeline import Abandoned, WriteBehind, read_ahead

LONG_S = 20.0
"""Longer than any step of these tests takes; what waits so long has failed."""


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@given(wholes=st.lists(st.lists(st.integers()), max_size=6))
@settings(max_examples=40, deadline=None)
def test_every_whole_is_written_from_its_own_parts_in_order(wholes: list[list[int]]) -> None:
    with WriteBehind() as writer:
        written = [writer.write(parts, list) for parts in wholes]
    assert [whole.result() for whole in written] == wholes


def test_a_part_is_written_while_the_next_is_made() -> None:
    first_is_written = threading.Event()

    def parts() -> Iterator[int]:
        yield 1
        assert first_is_written.wait(LONG_S)  # it would never be, if writing waited for the whole
        yield 2

    def consume(items: Iterator[int]) -> list[int]:
        taken = []
        for item in items:
            taken.append(item)
            first_is_written.set()
        return taken

    with WriteBehind() as writer:
        assert writer.write(parts(), consume).result() == [1, 2]


def test_a_whole_is_finished_while_the_next_is_made() -> None:
    next_is_begun = threading.Event()

    def finish_late(items: Iterator[int]) -> int:
        total = sum(items)
        assert next_is_begun.wait(LONG_S)
        return total

    def next_parts() -> Iterator[int]:
        next_is_begun.set()
        yield 5

    with WriteBehind() as writer:
        first = writer.write([1, 2], finish_late)
        assert not first.done()
        second = writer.write(next_parts(), sum)
    assert (first.result(), second.result()) == (3, 5)


@pytest.mark.parametrize(("wholes", "parts_at_once", "wholes_at_once"), [(1, 2, 1), (5, 3, 3)])
def test_few_parts_exist_at_a_time(wholes: int, parts_at_once: int, wholes_at_once: int) -> None:
    alive = most_parts = open_wholes = most_wholes = 0
    lock = threading.Lock()

    def count(parts: int = 0, wholes: int = 0) -> None:
        nonlocal alive, most_parts, open_wholes, most_wholes
        with lock:
            alive, open_wholes = alive + parts, open_wholes + wholes
            most_parts, most_wholes = max(most_parts, alive), max(most_wholes, open_wholes)

    def parts() -> Iterator[int]:
        count(wholes=1)
        for index in range(4):
            count(parts=1)
            yield index

    def slowly(items: Iterator[int]) -> None:
        for _ in items:
            time.sleep(0.002)
            count(parts=-1)
        time.sleep(0.005)
        count(wholes=-1)

    with WriteBehind() as writer:
        for _ in range(wholes):
            writer.write(parts(), slowly)
    assert alive == open_wholes == 0
    # One is being written and one is made; where wholes follow each other, one more waits.
    assert most_parts <= parts_at_once
    assert most_wholes <= wholes_at_once


def test_a_writer_that_fails_stops_the_making_and_keeps_its_error() -> None:
    made: list[int] = []

    def parts() -> Iterator[int]:
        for index in range(1000):
            made.append(index)
            yield index

    def fail(items: Iterator[int]) -> None:
        next(items)
        raise OSError("disk full")

    with WriteBehind() as writer:
        failed = writer.write(parts(), fail)
        fine = writer.write([1, 2], sum)
    assert len(made) <= 3
    with pytest.raises(OSError, match="disk full"):
        failed.result()
    assert fine.result() == 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_maker_that_fails_abandons_the_writer(error: type[BaseException]) -> None:
    met: list[type[BaseException]] = []

    def parts() -> Iterator[int]:
        yield 1
        raise error

    def consume(items: Iterator[int]) -> None:
        try:
            list(items)
        except Abandoned as abandoned:
            met.append(type(abandoned))
            raise

    with WriteBehind() as writer:
        earlier = writer.write([7], sum)
        with pytest.raises(error):
            writer.write(parts(), consume)
    assert met == [Abandoned]
    assert earlier.result() == 7


def test_the_next_is_read_while_the_caller_works_and_no_further() -> None:
    begun = [threading.Event() for _ in range(4)]

    def read(index: int) -> int:
        begun[index].set()
        return 10 * index

    with closing(read_ahead(range(4), read, early=lambda _: True)) as readings:
        assert next(readings).result() == 0
        assert begun[1].wait(LONG_S)
        assert not begun[2].wait(0.05)
        assert [reading.result() for reading in readings] == [10, 20, 30]


def test_what_has_no_room_is_read_when_its_turn_comes() -> None:
    begun: list[str] = []

    def read(name: str) -> str:
        begun.append(name)
        return name

    with closing(read_ahead(["a", "large", "b"], read, early=lambda name: name != "large")) as readings:
        assert next(readings).result() == "a"
        time.sleep(0.05)
        assert begun == ["a"]
        assert [reading.result() for reading in readings] == ["large", "b"]


def test_an_error_stays_with_its_source() -> None:
    def read(number: int) -> float:
        return 1 / number

    with closing(read_ahead([1, 0, 2], read, early=lambda _: True)) as readings:
        one, zero, two = readings
        assert (one.result(), two.result()) == (1, 0.5)
        with pytest.raises(ZeroDivisionError):
            zero.result()


def test_leaving_early_reads_no_more() -> None:
    begun: list[int] = []
    with closing(read_ahead(range(100), begun.append, early=lambda _: True)) as readings:
        for reading in islice(readings, 2):
            reading.result()
    assert len(begun) <= 3
