"""``python -m drc_deploy.bench.programs.ncnn_convert CHECKPOINT FOLDER`` writes ``net.ncnn.param`` and ``.bin``.

A program of its own, because torch and the converter would count in the memory of the process that is measured.
"""

import os
import sys
from pathlib import Path

SIDES_PX = ((64, 64), (48, 72))
"""Two sizes, from which the converter sees that any is to be taken."""


def main(checkpoint: Path, folder: Path) -> None:
    """Trace the network and convert it with pnnx, which is ncnn's way from torch."""
    import pnnx
    import torch

    from drc_deploy.checkpoint import load_checkpoint

    network = load_checkpoint(checkpoint).build_network().eval()
    # One image instead of one at each scale.
    network.forward = network.upscale  # type: ignore[assignment, method-assign]
    first, second = (255 * torch.rand(1, 3, *sides) for sides in SIDES_PX)
    os.chdir(folder)  # it also writes where it is
    # fp16=False: it would round the weights.
    pnnx.export(network, "net.pt", (first,), inputs2=(second,), check_trace=False, fp16=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
