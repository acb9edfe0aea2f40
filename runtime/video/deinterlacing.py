"""Whole pictures out of interlaced ones, by FFmpeg's filter bwdif."""

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame


def deinterlaced(frames: "Iterator[VideoFrame]", time_base: Fraction, *, flagged: bool) -> "Iterator[VideoFrame]":
    """Yield one whole picture for every frame, at its time.

    Args:
        frames: of one size, with a time each.
        time_base: seconds per tick.
        flagged: whether frames say that they are interlaced, and others stay; captures of tapes often do not say.
    """
    graph: Graph | None = None
    for frame in frames:
        graph = graph or _graph(frame, time_base, "interlaced" if flagged else "all")
        graph.vpush(frame)
        yield from _ready(graph, time_base)
    if graph is not None:
        graph.vpush(None)
        yield from _ready(graph, time_base)


def _graph(frame: "VideoFrame", time_base: Fraction, which: str) -> "Graph":
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base)
    graph.link_nodes(source, graph.add("bwdif", mode="send_frame", deint=which), graph.add("buffersink"))
    graph.configure()
    return graph


def _ready(graph: "Graph", time_base: Fraction) -> "Iterator[VideoFrame]":
    from av.error import BlockingIOError, EOFError

    while True:
        try:
            frame = graph.vpull()
        except (BlockingIOError, EOFError):  # it needs the next frame first, or there are no more
            return
        assert frame.pts is not None
        assert frame.time_base is not None
        frame.pts = int(frame.pts * (frame.time_base / time_base))  # the filter counts in half ticks
        yield frame
