import weakref
from collections.abc import Iterator
from itertools import islice

import pytest

from drc_deploy.runtime.paired import paired


class Thing:
    """What a weak reference can follow."""


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_each_item_comes_with_its_result_and_is_let_go(ahead: int) -> None:
    made: list[weakref.ref[Thing]] = []

    def items() -> Iterator[Thing]:
        for _ in range(100):
            made.append(weakref.ref(thing := Thing()))
            yield thing
            del thing

    def stream(given: Iterator[Thing]) -> Iterator[int]:
        under_way: list[int] = []
        for thing in given:
            under_way.append(id(thing))
            del thing
            if len(under_way) > ahead:
                yield under_way.pop(0)
        yield from under_way

    results = 0
    for item, result in paired(items(), stream):
        results += id(item) == result
        del item
        assert sum(thing() is not None for thing in made) <= ahead + 2
    assert results == 100


def test_what_is_left_early_takes_nothing_more() -> None:
    numbers = iter(range(100))
    pairs = paired(numbers, lambda given: map(str, given))
    assert list(islice(pairs, 3)) == [(0, "0"), (1, "1"), (2, "2")]
    pairs.close()
    assert next(numbers) == 3
