"""Two processes that train one network on this machine."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch
from torch.multiprocessing.spawn import spawn

Work = Callable[[int, int, Path], None]
"""Rank, number of processes, and a folder for what they leave."""


def run_two(work: Work, folder: Path) -> None:
    """Run ``work``, a function of a module, in two processes that can find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_process, args=(2, port, work, folder), nprocs=2)  # type: ignore[no-untyped-call]


def _process(rank: int, size: int, port: int, work: Work, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    work(rank, size, folder)
