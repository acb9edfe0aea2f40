"""Shared by all tests: a fixed seed, small networks, and the benchmark images where they are at hand."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from drc_deploy.locate import sample_images


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
