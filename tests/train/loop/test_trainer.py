"""One update: mixed precision, parts of a batch, compiling, and gradients over several processes."""

import copy
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from drc_deploy.errors import TrainingError, UsageError
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.loop import distributed
from drc_deploy.train.loop.losses import dual_regression_losses
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.loop.trainer import Trainer
from tests.models.plain_network import PlainNetwork
from tests.train.processes import run_two

OPTIONS = TrainOptions(4, batch=4, patch=8, learning_rate=1e-3)


def trainer(options: TrainOptions = OPTIONS) -> Trainer:
    torch.manual_seed(0)
    network = build_network(ModelSpec("drn_xs", 4))
    return Trainer(network, network.build_duals(), options)


def batch(size: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.rand(size, 3, 8 << k, 8 << k, generator=generator) * 255 for k in range(3)]


def gradients(trained: Trainer) -> list[Tensor]:
    return [p.grad.clone() for p in trained._parameters() if p.grad is not None]


def assert_close(ones: Sequence[Tensor], others: Sequence[Tensor], tolerance: float) -> None:
    for one, other in zip(ones, others, strict=True):
        assert float((one - other).norm()) <= tolerance * float(other.norm()) + 1e-12


def test_the_first_update_is_adams_closed_form() -> None:
    """After one step from empty moments Adam moves each weight by the learning rate against its gradient's sign."""
    mine = trainer(replace(OPTIONS, warm_up=0))
    before = [p.detach().clone() for p in mine._parameters()]
    network, duals = copy.deepcopy(mine.network), copy.deepcopy(mine.duals)
    images = batch()
    dual_regression_losses(network(images[0]), images, duals).total(0.1).backward()  # type: ignore[no-untyped-call]
    mine.update(images)
    expected = [p.grad for m in (network, duals) for p in m.parameters() if p.requires_grad]
    for old, new, gradient in zip(before, mine._parameters(), expected, strict=True):
        assert gradient is not None
        clear = gradient.abs() > 1e-4  # far above Adam's epsilon of 1e-8
        torch.testing.assert_close((new - old)[clear], -1e-3 * gradient.sign()[clear], rtol=1e-2, atol=0)


def test_parts_of_a_batch_give_the_gradients_of_the_whole() -> None:
    whole, parts = trainer(), trainer(replace(OPTIONS, accumulate=4))
    whole.update(batch())
    parts.update(batch())
    assert_close(gradients(parts), gradients(whole), 1e-4)
    assert parts.take_losses() == pytest.approx(whole.take_losses(), rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_nearly_the_gradients_of_single_precision(precision: str) -> None:
    single, half = trainer(), trainer(replace(OPTIONS, precision=precision))  # type: ignore[arg-type]
    single.update(batch())
    half.update(batch())
    ones, others = (torch.cat([g.flatten() for g in gradients(t)]) for t in (half, single))
    assert float(F.cosine_similarity(ones, others, dim=0)) > 0.97
    assert half.take_losses() == pytest.approx(single.take_losses(), rel=1e-2)
    assert all(p.dtype == torch.float32 for p in half._parameters())


def test_images_stay_in_single_precision_and_the_body_does_not() -> None:
    half = trainer(replace(OPTIONS, precision="bf16"))
    dtypes: dict[str, torch.dtype] = {}

    def watch(name: str) -> None:
        def remember(_module: object, _inputs: object, output: Tensor) -> None:
            dtypes[name] = output.dtype

        half.network.get_submodule(name).register_forward_hook(remember)

    body = "up_blocks.0.0.body.0"
    for name in ("sub_mean", "head", body, "tail.0", "tail.2", "add_mean"):
        watch(name)
    half.update(batch())
    assert dtypes.pop(body) == torch.bfloat16
    assert set(dtypes.values()) == {torch.float32}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_step_makes_the_same_updates() -> None:
    losses = []
    for compile_step in (False, True):
        torch.manual_seed(0)
        network = PlainNetwork(ModelSpec("plain", 4))  # small, because compiling takes a second per layer
        mine = Trainer(network, network.build_duals(), replace(OPTIONS, compile=compile_step))
        for _ in range(3):
            mine.update(batch())
        losses.append(mine.take_losses())
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiler_that_is_missing_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def fails(_images: object) -> None:
        raise TorchDynamoException("InvalidCxxCompiler: No working C++ compiler\n\nSet TORCHDYNAMO_VERBOSE=1 ...")

    mine = trainer(replace(OPTIONS, compile=True))
    monkeypatch.setattr(mine, "_module", fails)
    with pytest.raises(TrainingError, match=r"InvalidCxxCompiler: No working C\+\+ compiler\.$"):
        mine.update(batch())


def _process(rank: int, size: int, folder: Path) -> None:
    with distributed.process_group():
        mine = trainer(replace(OPTIONS, accumulate=2))
        mine.update([scale[rank::size] for scale in batch()])
        torch.save([gradients(mine), mine.take_losses()], folder / f"{rank}.pt")


def test_two_processes_make_the_gradients_of_one_with_the_whole_batch(tmp_path: Path) -> None:
    run_two(_process, tmp_path)
    whole = trainer()
    whole.update(batch())
    losses = whole.take_losses()
    for rank in range(2):
        shared, shared_losses = torch.load(tmp_path / f"{rank}.pt")
        assert_close(shared, gradients(whole), 1e-4)
        assert shared_losses == pytest.approx(losses, rel=1e-5)


def test_a_batch_that_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(UsageError, match="4 patches cannot be divided among 3 processes"):
        trainer()
