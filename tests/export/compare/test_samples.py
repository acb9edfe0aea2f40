import numpy as np
import pytest

from drc_deploy.export.compare.samples import check_batches, tile_batch
from drc_deploy.export.graph.graph import TRACE_SHAPE


@pytest.mark.parametrize("max_batch", [1, 4])
def test_checked_sizes_are_not_the_traced_one(max_batch: int) -> None:
    shapes = [batch.shape for batch in check_batches(max_batch)]
    assert len({shape[1:3] for shape in shapes}) == 2
    for shape in shapes:
        assert shape[0] <= max_batch
        assert shape[0] != TRACE_SHAPE[0]
        assert not {shape[1], shape[2]} & set(TRACE_SHAPE[1:3])


def test_the_images_of_a_batch_are_different_photographs() -> None:
    batch = check_batches(4)[1]
    assert batch.std() > 10
    assert not np.array_equal(batch[0], batch[1])


def test_a_tile_may_be_larger_than_a_photograph() -> None:
    assert tile_batch(2, 300, 7).shape == (2, 300, 7, 3)
