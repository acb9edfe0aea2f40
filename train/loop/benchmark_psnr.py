"""PSNR and SSIM of a network in training on benchmark sets: for the record, never to choose between checkpoints."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from drc_deploy import metrics
from drc_deploy.errors import UsageError
from drc_deploy.files import sha256_of
from drc_deploy.images.crops import fit_to_size
from drc_deploy.metrics import UInt8Image
from drc_deploy.models.network import SRNetwork
from drc_deploy.pairs import PairFiles, find_pairs
from drc_deploy.progress import progress
from drc_deploy.train.device import place_images

Benchmark = tuple[str, list[PairFiles]]
"""Name of a set, and its images."""


def find_benchmarks(folders: Sequence[Path], scale: int) -> list[Benchmark]:
    """Find the pairs in each folder's ``HR/`` and ``LRx<scale>/``, so that a bad one is known before training.

    Raises:
        InputError: a folder is missing, an image has no partner or cannot be read, or sizes do not belong together.
        UsageError: two folders have the same name.
    """
    names = [folder.resolve().name for folder in folders]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"two benchmark sets are called {repeated[0]}.", "Rename one of the folders.")
    found = [(name, find_pairs(folder, f"LRx{scale}", scale)) for name, folder in zip(names, folders, strict=True)]
    for _, pairs in found:
        for pair in pairs:
            pair.load(scale)
    return found


def fingerprints(benchmarks: Sequence[Benchmark]) -> dict[str, str]:
    """Return for each set a SHA-256 of its files: figures of equal names need not be of equal images."""
    result = {}
    for name, pairs in benchmarks:
        digest = hashlib.sha256()
        for pair in sorted(pairs, key=lambda pair: pair.name):
            digest.update(bytes.fromhex(sha256_of(pair.hr_path) + sha256_of(pair.lr_path)))
        result[name] = digest.hexdigest()
    return result


def measure_quality(network: SRNetwork, benchmarks: Sequence[Benchmark]) -> dict[str, dict[str, float | None]]:
    """Return ``psnr_y`` and ``ssim_y``: for each set the mean on luma, as ``drc-deploy eval`` measures it.

    PSNR is in dB, and None where an image is equal to its HR.
    """
    psnr: dict[str, float | None] = {}
    ssim: dict[str, float | None] = {}
    for name, pairs in benchmarks:
        scores = []
        with evaluating(network), progress(f"Measuring {name}", len(pairs)) as bar:
            for files in pairs:
                pair = files.load(network.scale)
                scores.append(metrics.score(pair.hr, upscale_image(network, pair.lr), border=network.scale))
                bar.advance()
        mean = metrics.mean_psnr([score.psnr_y for score in scores])
        psnr[name] = None if mean is None else round(mean, 3)
        ssim[name] = round(float(np.mean([score.ssim_y for score in scores])), 5)
    return {"psnr_y": psnr, "ssim_y": ssim}


@contextmanager
def evaluating(network: SRNetwork) -> Iterator[None]:
    """Put a network into evaluation mode for the block, and every module of it back into its own mode after."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def upscale_image(network: SRNetwork, lr: UInt8Image) -> UInt8Image:
    """Upscale one whole image: (H, W, 3) uint8 RGB to (scale*H, scale*W, 3) uint8 RGB.

    One whose sides the network does not take is continued at the right and at the bottom by its mirror image.
    """
    height, width = lr.shape[:2]
    continued = fit_to_size(lr, *map(network.taken_side, (height, width)))
    (batch,) = place_images([torch.tensor(continued).permute(2, 0, 1)[None].float()])
    with torch.no_grad():
        sr = network.upscale(batch)[0, :, : height * network.scale, : width * network.scale]
    return np.floor(sr.permute(1, 2, 0).cpu().numpy().clip(0, 255) + 0.5).astype(np.uint8)
