"""Searches that run side by side find what each finds alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drc_deploy.checkpoint import Parent
from drc_deploy.errors import TrainingError
from drc_deploy.torch_gpu import Lanes, record, warm_up
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.search import search as running
from drc_deploy.train.search import search_file as searching
from drc_deploy.train.search.search import KeptSearch
from drc_deploy.train.search.search_file import SearchInputs, search_file, search_files
from drc_deploy.train.search.search_options import SearchOptions
from drc_deploy.train.search.searcher import Searcher
from drc_deploy.widths import WidthsFile

OPTIONS = SearchOptions(steps=4, batch=2, patch=8, target="madds", weight_learning_rate=1e-3)
RATIOS = (0.3, 0.5, 0.7)


@pytest.fixture
def inputs(parent: Parent, photographs: Photographs) -> SearchInputs:
    return SearchInputs(parent, photographs)


@pytest.fixture
def alone(inputs: SearchInputs, tmp_path: Path) -> list[WidthsFile]:
    """What each finds on its own."""
    return [search_file(inputs, replace(OPTIONS, ratio=r), tmp_path / f"{r}.widths.json") for r in RATIOS]


@pytest.fixture
def all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a CPU do as a GPU does."""
    monkeypatch.setattr(searching, "most_at_once", lambda count: count)


def family(inputs: SearchInputs, folder: Path) -> list[WidthsFile]:
    jobs = {folder / f"r{ratio}.widths.json": replace(OPTIONS, ratio=ratio) for ratio in RATIOS}
    found: dict[Path, WidthsFile] = {}
    while left := {path: options for path, options in jobs.items() if path not in found}:
        new = search_files(inputs, left)
        assert list(new) == list(left)[: len(new)]
        found |= new
    assert all(path.is_file() for path in jobs)
    assert not list(folder.rglob("*.safetensors"))  # no state is left
    return [found[path] for path in jobs]


def groups_seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that will hold how many searches were begun together."""
    seen: list[int] = []
    original: Callable[..., None] = running.search_widths

    def search_widths(searches: list[KeptSearch], *rest: object) -> None:
        seen.append(len(searches))
        original(searches, *rest)

    monkeypatch.setattr(searching, "search_widths", search_widths)
    return seen


@pytest.mark.usefixtures("all_at_once")
def test_each_finds_what_it_finds_alone(
    inputs: SearchInputs, alone: list[WidthsFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = groups_seen(monkeypatch)
    assert family(inputs, tmp_path / "family") == alone
    assert groups == [3]
    assert len({found.widths for found in alone}) == 3


def test_a_cpu_searches_one_after_the_other(
    inputs: SearchInputs, alone: list[WidthsFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = groups_seen(monkeypatch)
    assert family(inputs, tmp_path / "family") == alone
    assert groups == [1, 1, 1]


def allocation_fails() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def graph_finds_no_memory() -> None:
    raise RuntimeError("CUDA error: out of memory")  # outside the memory that torch divides


def recording_ends_with_another_error() -> None:
    try:
        allocation_fails()
    finally:
        raise RuntimeError("operation failed due to a previous error during capture")


@pytest.mark.usefixtures("all_at_once")
@pytest.mark.parametrize("fail", [allocation_fails, graph_finds_no_memory, recording_ends_with_another_error])
def test_as_many_run_at_once_as_memory_holds(
    fail: Callable[[], None],
    inputs: SearchInputs,
    alone: list[WidthsFile],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The memory runs out in the third update of three searches; what was saved before is not done again."""
    groups, original = groups_seen(monkeypatch), Lanes.run
    updates: list[int] = []

    def run(lanes: Lanes, works: dict[int, Callable[[], torch.Tensor]]) -> list[torch.Tensor]:
        if len(works) > 1 and len(updates) == 2:
            fail()
        updates.append(len(works))
        return original(lanes, works)

    monkeypatch.setattr(Lanes, "run", run)
    monkeypatch.setattr(running, "SAVE_EVERY_STEPS", 1)
    assert family(inputs, tmp_path / "family") == alone
    assert groups == [3, 1, 2]
    assert updates == [3, 3, 1, 1, 2, 2]


def test_one_search_that_fills_the_memory_fails(
    inputs: SearchInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def update(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Searcher, "update", update)
    with pytest.raises(TrainingError, match="too little memory"):
        family(inputs, tmp_path / "family")


@pytest.mark.usefixtures("all_at_once")
@pytest.mark.parametrize("saves", [4, 5])
def test_a_kill_between_two_states_changes_nothing(
    saves: int, inputs: SearchInputs, alone: list[WidthsFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "SAVE_EVERY_STEPS", 1)
    original = KeptSearch.save
    made: list[int] = []
    with monkeypatch.context() as patch:

        def save(search: KeptSearch) -> None:
            if len(made) == saves:
                raise SystemExit
            made.append(search.searcher.step)
            original(search)

        patch.setattr(KeptSearch, "save", save)
        with pytest.raises(SystemExit):
            family(inputs, tmp_path / "family")
    assert sorted(set(made)) == [1, 2]
    assert family(inputs, tmp_path / "family") == alone


def test_works_on_a_cpu_run_in_their_order() -> None:
    order: list[int] = []

    def work(number: int) -> int:
        order.append(number)
        return number**2

    assert Lanes(3).run({n: lambda n=n: work(n) for n in (1, 2, 3)}) == [1, 4, 9]  # type: ignore[misc]
    assert order == [1, 2, 3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.gpu
def test_lanes_wait_for_what_was_queued_before_them_and_are_waited_for() -> None:
    size = 1 << 22
    numbers = torch.zeros(size, device="cuda")
    for _ in range(50):
        numbers.add_(1)
    results = Lanes(3).run({k: lambda k=k: (numbers * k).cumsum(0) for k in (1, 2, 3)})  # type: ignore[misc]
    numbers.fill_(-1)  # what is queued later must not be seen by them
    for factor, result in zip((1, 2, 3), results, strict=True):
        assert float(result[9]) == 500 * factor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.gpu
def test_products_that_are_replayed_at_once_do_not_share_memory() -> None:
    """Long sums are divided: parts of them are in the working memory of cuBLAS."""
    lanes, long = Lanes(3), 1 << 20
    factors = {k: torch.randn(32, long, device="cuda") for k in range(3)}

    def recorded(k: int) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        assert warm_up(lambda: factors[k] @ factors[k].T)
        return record(lambda: factors[k] @ factors[k].T)

    recordings = lanes.run({k: lambda k=k: recorded(k) for k in range(3)})  # type: ignore[misc]
    alone = []
    for graph, product in recordings:
        graph.replay()
        alone.append(product.clone())
    for _ in range(20):
        lanes.run({k: recordings[k][0].replay for k in range(3)})
        for expected, (_graph, product) in zip(alone, recordings, strict=True):
            torch.testing.assert_close(product, expected, rtol=1e-5, atol=1e-2)
