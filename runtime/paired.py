"""Items with what a stream made of them."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def paired(
    items: Iterable[Item], stream: Callable[[Iterator[Item]], Iterable[Result]]
) -> Generator[tuple[Item, Result], None, None]:
    """Yield every item with its result.

    ``itertools.tee`` would keep up to 57 items that have passed, such as frames of a video.

    Args:
        items: What the stream gets.
        stream: Yields a result for each, in order; it may take some ahead.
    """
    taken: deque[Item] = deque()

    def given() -> Iterator[Item]:
        for item in items:
            taken.append(item)
            yield item

    for result in stream(given()):
        yield taken.popleft(), result
