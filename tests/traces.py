"""Traces of networks, kept in files for all processes of a test run; weights are put in afterwards."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from torch import Tensor

from drc_deploy.export.compare.reference import PixelNetwork

Tile = tuple[int, int] | None


class Traces:
    """Traces a network when no other one of the same structure has been traced.

    An initialiser of a traced graph has the name of the tensor that it holds, and its bytes. Equal tensors become one
    initialiser, so which tensors are equal is part of the structure.
    """

    def __init__(self, trace: Callable[[PixelNetwork, int, Tile], onnx.ModelProto], folder: Path) -> None:
        self._trace, self._folder = trace, folder

    def trace(self, network: PixelNetwork, opset: int, tile: Tile) -> onnx.ModelProto:
        """Return the graph of ``network``."""
        weights = {name: _bytes(tensor) for name, tensor in network.state_dict().items()}
        first: dict[bytes, str] = {}
        same = [first.setdefault(data, name) for name, data in weights.items()]
        key = repr((opset, tile, str(network), [(t.shape, t.dtype) for t in network.state_dict().values()], same))
        path = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.trace.onnx"
        if not path.exists():
            model = self._trace(network, opset, tile)
            assert all(part.raw_data == weights.get(part.name, part.raw_data) for part in model.graph.initializer)
            mine = path.with_suffix(f".{os.getpid()}")
            mine.write_bytes(model.SerializeToString())
            mine.replace(path)  # another process may read or write it
            return model
        model = onnx.load(path)
        for part in model.graph.initializer:
            part.raw_data = weights.get(part.name, part.raw_data)
        return model


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes()
