"""Exact tiles of a checkpoint are those of the whole image, and those of the exact graph."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")


from drc_deploy.checkpoint import Checkpoint, save_checkpoint
from drc_deploy.errors import ArtefactError
from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import SHIPPED
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import MODELS, Architecture, build_network
from drc_deploy.runtime.backends.pytorch.backend import TorchBackend
from drc_deploy.runtime.backends.pytorch.loaded_network import TileNetwork
from drc_deploy.runtime.tiling.exact import PASSES, ExactBackend
from drc_deploy.runtime.tiling.exact_torch import exact_backend
from drc_deploy.runtime.upscaler import Upscaler
from tests.models.plain_network import PlainNetwork

DRN_XS = SHIPPED / "drn_xs.safetensors"


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return read_rgb(SHIPPED.parent / "samples" / "chelsea.png")[40:110, 60:140]  # 2x2 tiles of 56


def open_pair() -> tuple[TorchBackend, ExactBackend]:
    backend = TorchBackend(DRN_XS)
    return TorchBackend(DRN_XS), exact_backend(backend.network, backend.workers)


@pytest.mark.parametrize("threads", [1, 2])
def test_exact_tiles_of_a_checkpoint_equal_the_whole(image: np.ndarray, threads: int) -> None:
    with Upscaler.open(DRN_XS) as whole, Upscaler.open(DRN_XS, tile=56) as tiled:
        expected, without = whole(image).astype(int), tiled(image)
    with Upscaler.open(DRN_XS, tile=56, exact=True, threads=threads) as exact:
        done: list[int] = []
        result = np.concatenate(list(exact.strips(image, done.append)))
        assert sum(done) == exact.task(image).tile_count == (1 + PASSES) * exact.plan(*image.shape[:2]).tile_count
    assert np.abs(result - expected).max() <= 1
    assert np.abs(without - expected).max() > 1


def test_means_of_parts_add_up_to_those_of_the_whole(image: np.ndarray) -> None:
    """Means of disjoint parts, weighted by their areas, give the means of the whole."""
    _, exact = open_pair()
    batch = image[None].astype(np.float32)
    parts = [(0, 0, 40, 80), (40, 0, 70, 30), (40, 30, 70, 80)]
    areas = [(bottom - top) * (right - left) for top, left, bottom, right in parts]
    seen = list(exact.seen_means((batch, np.array(part, np.int64)) for part in parts))
    (whole,) = exact.seen_means([(batch, np.array([0, 0, 70, 80], np.int64))])
    assert np.average(seen, axis=0, weights=areas) == pytest.approx(whole, rel=1e-3, abs=1e-3)
    blocks = build_network(ModelSpec("drn_xs", 4)).global_means
    assert len(whole) % len(blocks) == 0
    assert len(whole) > 16 * len(blocks)


def test_given_means_replace_those_of_the_tile(image: np.ndarray) -> None:
    plain, exact = open_pair()
    batch = image[None].astype(np.float32)
    (seen,) = exact.seen_means([(batch, np.array([0, 0, 70, 80], np.int64))])
    own = plain.run(batch)
    assert np.abs(exact.run(batch) - own).max() < 0.01
    assert np.abs(exact.with_means(seen).run(batch) - own).max() < 0.01
    assert np.abs(exact.with_means(seen + 5).run(batch) - own).max() > 1


def test_every_mean_over_the_tile_is_declared() -> None:
    """With all declared means given, nothing sees the whole tile any more: far away nothing changes."""
    _, exact = open_pair()
    tile = np.random.default_rng(0).uniform(0, 255, (1, 64, 16, 3)).astype(np.float32)
    other = tile.copy()
    other[:, :8] = 0
    (seen,) = exact.seen_means([(tile, np.array([0, 0, 64, 16], np.int64))])
    given = exact.with_means(seen)
    reach = 8 + exact.info.receptive_field
    assert np.array_equal(given.run(tile)[:, 4 * reach :], given.run(other)[:, 4 * reach :])
    assert not np.array_equal(exact.run(tile)[:, 4 * reach :], exact.run(other)[:, 4 * reach :])


def test_a_network_without_means_is_exact_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(MODELS, "plain", Architecture("for tests", {4: PlainNetwork}))
    save_checkpoint(tmp_path / "plain.safetensors", Checkpoint.of(build_network(ModelSpec("plain", 4))))
    image = np.random.default_rng(0).integers(0, 256, (50, 41, 3), np.uint8)
    with Upscaler.open(tmp_path / "plain.safetensors") as whole:
        expected = whole(image).astype(int)
    with Upscaler.open(tmp_path / "plain.safetensors", tile=24, exact=True) as exact:
        assert exact.task(image).tile_count == exact.plan(50, 41).tile_count > 1
        assert np.abs(exact(image) - expected).max() <= 1


def test_a_network_that_does_not_declare_its_means_is_refused() -> None:
    network = TileNetwork(DRN_XS, "fp32")
    network.network.global_means = ()
    with pytest.raises(ArtefactError, match="does not declare"):
        exact_backend(network, 1)
