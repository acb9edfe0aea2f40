"""What the transforms of a blind network cost, by way of computing them: ``python -m tests.benchmarks.transforms``.

The deconvolution of DCLS by ``torch.fft``, by products of matrices in torch and in ONNX Runtime, and by ONNX's own DFT
operator there, in turns in one process. With one thread it is processor time that counts. Each is compared with
``torch.fft`` in float64 first.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from unittest import mock

import click
import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from drc_deploy.models.dcls import DCLSConfig, LeastSquares
from drc_deploy.models.registry import DCLS_FILTERS
from tests.benchmarks.turns import ratios_text

SIDES = (64, 128, 256)


@click.command()
@click.option("--features", default=64, show_default=True, help="Channels of the network: dcls has 64, dcls_xs 32.")
@click.option("--turns", default=7, show_default=True)
def main(features: int, turns: int) -> None:
    """Print medians, and times in parts of that of torch.fft, for square images."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    module = LeastSquares(features).eval().requires_grad_(False)
    kernel = torch.rand(1, 1, *(DCLSConfig(DCLS_FILTERS[4]).kernel_size,) * 2)
    kernel /= kernel.sum()
    for side in SIDES:
        image = torch.rand(1, features, side, side)
        runs = _ways(module, image, kernel)
        exact = module.double()(image.double(), kernel.double()).numpy()
        module.float()
        for name, run in runs.items():
            error = np.abs(run() - exact).max() / np.abs(exact).max()
            click.echo(f"{side}x{side}, {name}: error {error:.1e} of the largest value")
        click.echo(f"{side}x{side}: {ratios_text(runs, turns=turns, clock=time.process_time)}")


def _ways(module: LeastSquares, image: Tensor, kernel: Tensor) -> dict[str, Callable[[], "np.ndarray"]]:
    """Return each way to compute the module, by its name."""
    feeds = {"image": image.numpy(), "kernel": kernel.numpy()}

    def by_matrices() -> np.ndarray:
        with _transforms(by_matrices=True):
            return np.asarray(module(image, kernel))

    ways: dict[str, Callable[[], np.ndarray]] = {
        "torch.fft": lambda: np.asarray(module(image, kernel)),
        "torch, matrices": by_matrices,
    }
    for name, matrices in (("ONNX Runtime, matrices", True), ("ONNX Runtime, DFT", False)):
        ways[name] = partial(_run, _session(module, image, kernel, by_matrices=matrices), feeds)
    return ways


def _run(session: onnxruntime.InferenceSession, feeds: dict[str, "np.ndarray"]) -> "np.ndarray":
    (result,) = session.run(None, feeds)
    return np.asarray(result)


@contextmanager
def _transforms(*, by_matrices: bool) -> Iterator[None]:
    """Let transforms be computed as in an export, or as elsewhere."""
    with mock.patch("torch.compiler.is_exporting", return_value=by_matrices):
        yield


def _session(module: nn.Module, image: Tensor, kernel: Tensor, *, by_matrices: bool) -> onnxruntime.InferenceSession:
    with _transforms(by_matrices=by_matrices):
        program = torch.onnx.export(
            module, (image, kernel), dynamo=True, input_names=["image", "kernel"], opset_version=20, verbose=False
        )
    assert program is not None
    operators = {node.op_type for node in program.model_proto.graph.node}
    assert ("DFT" in operators) != by_matrices, operators
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False  # as the runtime has it
    content = program.model_proto.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
