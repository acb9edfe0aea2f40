"""From a folder of photographs to a checkpoint: training from scratch, and fine-tuning."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from drc_deploy.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from drc_deploy.files import sha256_of
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.registry import build_network
from drc_deploy.train.data import PatchSampler, Photographs
from drc_deploy.train.evaluation import Benchmark, measure_psnr
from drc_deploy.train.loop import Trainer, TrainOptions, run_training
from drc_deploy.train.state import state_path_of


def train_from_scratch(
    spec: ModelSpec,
    photographs: Photographs,
    options: TrainOptions,
    output: Path,
    *,
    benchmarks: Sequence[Benchmark] = (),
    restart: bool = False,
) -> Checkpoint:
    """Train a network and its duals and write the checkpoint.

    An interrupted run of the same options is taken up where it was, unless ``restart``. PSNR on the benchmarks goes
    into the checkpoint's provenance.

    Raises:
        UsageError: unknown model, impossible options, or unfinished work with other options.
        TrainingError: the loss became NaN.
        OutputError: the checkpoint cannot be written.
    """
    torch.manual_seed(options.seed)
    network = build_network(spec)
    start = _Start(network, network.build_duals(), parent_sha256=None)
    return _train(start, photographs, options, output, benchmarks=benchmarks, restart=restart)


def finetune(
    parent: Path,
    photographs: Photographs,
    options: TrainOptions,
    output: Path,
    *,
    benchmarks: Sequence[Benchmark] = (),
    restart: bool = False,
) -> Checkpoint:
    """Go on training the network and duals of the checkpoint ``parent``; otherwise as ``train_from_scratch``."""
    checkpoint = load_checkpoint(parent)
    torch.manual_seed(options.seed)  # only for duals, if the checkpoint has none
    start = _Start(checkpoint.build_network(), checkpoint.build_duals(), parent_sha256=sha256_of(parent))
    return _train(start, photographs, options, output, benchmarks=benchmarks, restart=restart)


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a run begins."""

    network: SRNetwork
    duals: nn.ModuleList
    parent_sha256: str | None


def _train(
    start: _Start,
    photographs: Photographs,
    options: TrainOptions,
    output: Path,
    *,
    benchmarks: Sequence[Benchmark],
    restart: bool,
) -> Checkpoint:
    state = state_path_of(output, "train", restart=restart)
    sampler = PatchSampler(photographs.pyramids, patch=options.patch, batch=options.batch, seed=options.seed)
    trainer = Trainer(start.network, start.duals, options)
    spec = start.network.spec
    inputs = {"data": photographs.fingerprint, "parent": start.parent_sha256, "model": spec.name, "scale": spec.scale}
    loss = run_training(trainer, sampler, state, inputs=inputs)
    provenance = {
        "stage": "finetune" if start.parent_sha256 else "train",
        "data": {"folder": photographs.folder, "images": len(photographs.pyramids), "sha256": photographs.fingerprint},
        "steps": options.steps,
        "batch": options.batch,
        "patch": options.patch,
        "learning_rate": options.learning_rate,
        "dual_weight": options.dual_weight,
        "seed": options.seed,
        "loss": round(loss, 4),
        "psnr_y": measure_psnr(trainer.network, benchmarks),
        "seconds": round(trainer.seconds, 1),
        "torch": torch.__version__,
    }
    checkpoint = Checkpoint.of(
        trainer.network, trainer.duals if options.dual_weight else None, provenance, start.parent_sha256
    )
    save_checkpoint(output, checkpoint)
    state.unlink(missing_ok=True)
    return checkpoint
