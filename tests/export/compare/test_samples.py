import dataclasses

import numpy as np
import pytest

from drc_deploy.export.compare.samples import check_batches, range_batches, tile_batch
from drc_deploy.export.graph.graph import TRACE_SHAPE
from tests.export.networks import toy_info


@pytest.mark.parametrize("max_batch", [1, 4])
def test_checked_sizes_are_not_the_traced_one(max_batch: int) -> None:
    shapes = [batch.shape for batch in check_batches(dataclasses.replace(toy_info("uint8"), max_batch=max_batch))]
    assert len({shape[1:3] for shape in shapes}) == 2
    for shape in shapes:
        assert shape[0] <= max_batch
        assert shape[0] != TRACE_SHAPE[0]
        assert not {shape[1], shape[2]} & set(TRACE_SHAPE[1:3])


def test_images_have_sides_that_the_network_takes() -> None:
    info = dataclasses.replace(toy_info("uint8"), multiple_of=8, minimum=30)
    assert [batch.shape for batch in check_batches(info)] == [(1, 32, 32, 3), (3, 56, 96, 3)]
    assert all(side % 8 == 0 and side >= 30 for batch in range_batches(info) for side in batch.shape[1:3])
    one = dataclasses.replace(info, tile=(40, 48), max_batch=1)
    assert {batch.shape for batch in (*check_batches(one), *range_batches(one))} == {(1, 40, 48, 3)}


def test_the_images_of_a_batch_are_different_photographs() -> None:
    batch = check_batches(toy_info("uint8"))[1]
    assert batch.std() > 10
    assert not np.array_equal(batch[0], batch[1])


def test_a_tile_may_be_larger_than_a_photograph() -> None:
    assert tile_batch(2, 300, 7).shape == (2, 300, 7, 3)
