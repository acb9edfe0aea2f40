"""Shared by all tests: a fixed seed, small networks, and the benchmark images where they are at hand."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from drc_deploy.locate import sample_images

if TYPE_CHECKING:
    import onnx

    from drc_deploy.export.compare.reference import PixelNetwork


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist hand out files in the order of ``pytest_collection_modifyitems``, not by their tests' number."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests: one that comes last keeps one process busy and lets others wait."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _interruptible() -> None:
    """Let every test begin with Python's own handlers.

    A process that a shell started in the background ignores Ctrl-C, and a command run in this process leaves handlers.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    np.random.seed(0)
    try:
        import torch
    except ImportError:
        return
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _scheduled() -> Iterator[None]:
    """Undo what an encoder that a test opens itself does to the scheduling of the process."""
    from drc_deploy.runtime.video.writing import scheduled_as_before

    with scheduled_as_before():
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Compute with one thread: for images as small as here, a second one takes more time than it saves."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def trace_anew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any] | None]:
    """Trace each DRN once, for that takes most of the time of an export; return the function that does trace.

    All processes of a run share the traces, and networks that differ in their weights alone share one.
    """
    try:
        from drc_deploy.export.graph import graph
        from drc_deploy.models.drn import DRN
        from tests.traces import Traces
    except ImportError:
        yield None
        return
    base, trace = tmp_path_factory.getbasetemp(), graph._export_onnx
    traces = Traces(trace, base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)

    def trace_once(network: "PixelNetwork", opset: int, tile: tuple[int, int] | None) -> "onnx.ModelProto":
        if type(network.network) is not DRN:  # tests have networks that differ in their code alone
            return trace(network, opset, tile)
        return traces.trace(network, opset, tile)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "_export_onnx", trace_once)
        yield trace


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """Folder with Set5/, Set14/ and BSD100/, each holding HR/, LRx4/, LRx4_sym/ and LRx8/."""
    folder = os.environ.get("DRC_DEPLOY_DATA")
    if not folder:
        pytest.skip("DRC_DEPLOY_DATA does not point to the benchmark images")
    return Path(folder)


@pytest.fixture(scope="session")
def photograph() -> Path:
    """One photograph that ships with the package."""
    return sample_images()[0]
