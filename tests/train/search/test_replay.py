"""A search whose passes are recorded and replayed makes the updates of one that launches them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.locate import SHIPPED
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop import graph_replay
from drc_deploy.train.search.cost import budget_for, cost_model
from drc_deploy.train.search.search_options import SearchMethod, SearchOptions
from drc_deploy.train.search.searcher import Searcher
from drc_deploy.widths import Target

STEPS = 3
KINDS: list[tuple[str, SearchMethod, Literal[1, 2], Target]] = [
    ("drn_xs", "drc", 1, "madds"),
    ("drn_xs", "drc", 2, "channels"),
    ("drn_xs", "darts", 1, "params"),
    ("drn_es", "drc", 1, "madds"),
]


@pytest.fixture
def batches(photographs: Photographs) -> list[list[Tensor]]:
    sampler = PatchSampler(photographs, scale=4, patch=8, batch=2, seed=3)
    return [sampler.sample(step) for step in range(2 * STEPS)]


def searcher(name: str, method: SearchMethod, order: Literal[1, 2], target: Target) -> Searcher:
    torch.manual_seed(0)
    trained = load_checkpoint(SHIPPED / f"{name}.safetensors")
    network = trained.build_network()
    budget = None if target == "channels" else budget_for(cost_model(network.spec, target), network.widths, 0.5)
    options = SearchOptions(0.5, STEPS, 2, 8, method=method, order=order, target=target, weight_learning_rate=1e-3)
    return Searcher(network, network.build_duals(), options, budget)


def updates(search: Searcher, batches: list[list[Tensor]]) -> list[Tensor]:
    """Make some, and return losses, logits, weights and importance behind them."""
    pairs = zip(batches[::2], batches[1::2], strict=True)
    losses = [search.update(training, validation).clone() for training, validation in pairs]
    return [
        *losses,
        search.alphas.detach(),
        *(weight.detach() for weight in search.weights),
        search.supernet.importance,
    ]


class HostMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects what would make a host wait for its GPU, or bring numbers to it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.split("::")[1] in {"_local_scalar_dense", "lift_fresh", "nonzero", "masked_select"}:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", KINDS)
def test_no_pass_waits_for_the_device(
    kind: tuple[Any, Any, Any, Any], batches: list[list[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = searcher(*kind)
    search.update(*batches[:2])

    def read(*_: object) -> None:
        raise AssertionError("reads values")

    for name in ("tolist", "numpy"):  # which dispatch nothing
        monkeypatch.setattr(Tensor, name, read)
    with HostMode() as mode:
        search._logits_pass([*batches[2], *batches[3]])
        search._weights_pass(batches[2])
        assert not mode.seen
        float(search.alphas.detach().sum())
    assert mode.seen == ["aten._local_scalar_dense.default"]  # what is looked for can be seen


@dataclass
class Traced:
    """The operations of a pass without the Python around them, as a CUDA graph has them."""

    run: Callable[..., tuple[Tensor, ...]]
    memory: tuple[Tensor, ...]

    def replay(self) -> None:
        with torch.no_grad():
            for mine, new in zip(self.memory, self.run(), strict=True):
                mine.copy_(new)

    def pool(self) -> None:
        """Return nothing: there is no memory to share."""


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> Callable[[Searcher], None]:
    """Let passes of a search be recorded by torch.fx, on the CPU."""

    def record_for(search: Searcher) -> None:
        def record(run: Callable[[], Tensor], _after: object) -> tuple[Traced, Tensor]:
            def pure() -> tuple[Tensor, ...]:
                result, rated = run(), search.supernet._rated
                gradients = [p.grad for p in (search.alphas, *search.weights) if p.grad is not None]
                memory = (result, *gradients, *([] if rated is None else [rated]))
                held[:] = memory
                return memory

            held: list[Tensor] = []
            graph = make_fx(pure)()
            for tensor in held:
                tensor.fill_(float("nan"))  # a recording computes nothing
            return Traced(graph, tuple(held)), held[0]

        def warm_up(run: Callable[[], Tensor]) -> bool:
            run()
            return True

        monkeypatch.setattr(graph_replay, "record", record)
        monkeypatch.setattr(graph_replay, "warm_up", warm_up)
        search.replays = True

    return record_for


@pytest.mark.parametrize("kind", KINDS)
def test_replayed_operations_are_whole_updates(
    kind: tuple[Any, Any, Any, Any], batches: list[list[Tensor]], recorders: Callable[[Searcher], None]
) -> None:
    launched, replayed = searcher(*kind), searcher(*kind)
    start = [weight.detach().clone() for weight in launched.weights]
    recorders(replayed)
    expected, found = updates(launched, batches), updates(replayed, batches)
    assert replayed.replays
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
    assert max(float((a - b).abs().max()) for a, b in zip(start, expected[STEPS + 1 : -1], strict=True)) > 1e-4


def test_a_pass_that_waits_for_the_device_is_launched(
    batches: list[list[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_replay, "warm_up", lambda run: bool(run().isnan().any()))
    launched, refused = searcher(*KINDS[0]), searcher(*KINDS[0])
    refused.replays = True
    for one, other in zip(updates(launched, batches), updates(refused, batches), strict=True):
        assert torch.equal(one, other)
    assert not refused.replays


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_replayed_updates_on_a_gpu_are_the_launched_ones(
    kind: tuple[Any, Any, Any, Any], batches: list[list[Tensor]]
) -> None:
    launched, replayed = searcher(*kind), searcher(*kind)
    launched.replays = False
    expected, found = updates(launched, batches), updates(replayed, batches)
    assert replayed.replays
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=2e-3)
