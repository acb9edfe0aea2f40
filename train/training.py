"""From a folder of photographs to a checkpoint: training from scratch, and fine-tuning."""

import hashlib
import time
from pathlib import Path

import torch
from torch import nn

from drc_deploy.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from drc_deploy.files import sha256_of
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.registry import build_network
from drc_deploy.train.data import PatchSampler, Photographs
from drc_deploy.train.loop import Trainer, TrainOptions, run_training
from drc_deploy.train.state import state_path_of


def train_from_scratch(
    spec: ModelSpec, photographs: Photographs, options: TrainOptions, output: Path, *, restart: bool = False
) -> Checkpoint:
    """Train a network and its duals and write the checkpoint.

    An interrupted run of the same options is taken up where it was, unless ``restart``.

    Raises:
        UsageError: unknown model, impossible options, or unfinished work with other options.
        TrainingError: the loss became NaN.
        OutputError: the checkpoint cannot be written.
    """
    torch.manual_seed(options.seed)
    network = build_network(spec)
    return _train(network, network.build_duals(), photographs, options, output, parent=None, restart=restart)


def finetune(
    parent: Path, photographs: Photographs, options: TrainOptions, output: Path, *, restart: bool = False
) -> Checkpoint:
    """Go on training the network and duals of the checkpoint ``parent``; otherwise as ``train_from_scratch``."""
    checkpoint = load_checkpoint(parent)
    torch.manual_seed(options.seed)  # only for duals, if the checkpoint has none
    return _train(
        checkpoint.build_network(),
        checkpoint.build_duals(),
        photographs,
        options,
        output,
        parent=parent,
        restart=restart,
    )


def _train(
    network: SRNetwork,
    duals: nn.ModuleList,
    photographs: Photographs,
    options: TrainOptions,
    output: Path,
    *,
    parent: Path | None,
    restart: bool,
) -> Checkpoint:
    state = state_path_of(output, "train", restart=restart)
    sampler = PatchSampler(photographs.pyramids, patch=options.patch, batch=options.batch, seed=options.seed)
    parent_sha256 = sha256_of(parent) if parent else None
    fingerprint = fingerprint_of(photographs)
    trainer = Trainer(network, duals, options)
    start = time.monotonic()
    loss = run_training(
        trainer,
        sampler,
        state,
        inputs={"data": fingerprint, "parent": parent_sha256, "model": network.spec.name},
    )
    provenance = {
        "stage": "finetune" if parent else "train",
        "data": {"folder": photographs.folder, "images": len(photographs.pyramids), "sha256": fingerprint},
        "steps": options.steps,
        "batch": options.batch,
        "patch": options.patch,
        "learning_rate": options.learning_rate,
        "dual_weight": options.dual_weight,
        "seed": options.seed,
        "loss": round(loss, 4),
        "seconds": round(time.monotonic() - start, 1),
        "torch": torch.__version__,
    }
    checkpoint = Checkpoint.of(trainer.network, duals if options.dual_weight else None, provenance, parent_sha256)
    save_checkpoint(output, checkpoint)
    state.unlink(missing_ok=True)
    return checkpoint


def fingerprint_of(photographs: Photographs) -> str:
    """Give the SHA-256 of all pixels that training sees, so that a run is not resumed on other data."""
    digest = hashlib.sha256()
    for pyramid in photographs.pyramids:
        digest.update(repr(pyramid[-1].shape).encode())
        digest.update(pyramid[-1].tobytes())
    return digest.hexdigest()
