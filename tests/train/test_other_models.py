"""Search, pruning and fine-tuning work from the list of prunable layers and know no model by name."""

from pathlib import Path

import pytest

from drc_deploy.checkpoint import Parent, load_checkpoint
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.compress import CompressInputs, CompressOptions, compress
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.pruning.prune_options import PruneOptions
from drc_deploy.train.search.search_options import SearchOptions
from tests.train.pruning.test_shrink import assert_masked_equals_shrunk


def test_a_network_of_another_kind_is_compressed(
    plain_parent: Parent, photographs: Photographs, tmp_path: Path
) -> None:
    options = CompressOptions(
        SearchOptions(0.5, steps=2, batch=2, patch=8, round_to=2),
        PruneOptions("drc", 1, 2, 8, channels_per_step=2),
        TrainOptions(2, 2, 8),
    )
    compress(CompressInputs(plain_parent, photographs), {tmp_path / "plain_r50.safetensors": options})
    small = load_checkpoint(tmp_path / "plain_r50.safetensors").build_network()
    assert all(0 < now <= full // 2 for now, full in zip(small.widths, (12, 6), strict=True))


@pytest.mark.usefixtures("plain_parent")
def test_masked_equals_shrunk_through_a_large_pixel_shuffle() -> None:
    assert_masked_equals_shrunk(build_network(ModelSpec("plain", 4)).eval(), seed=3)
