import json
import math

import numpy as np
import pytest

from drc_deploy.errors import VerificationError
from drc_deploy.export.compare.agreement import Agreement, require_psnr, to_uint8


@pytest.mark.parametrize("difference", [0.1, 1.0, 16.0])
def test_psnr_of_a_constant_difference_is_the_closed_form(difference: float) -> None:
    reference = np.full((1, 4, 4, 3), 100.0)
    found = Agreement.between([reference], [reference + difference])
    assert found.psnr_db == pytest.approx(20 * math.log10(255 / difference))
    assert found.max_difference == pytest.approx(difference)
    assert (found.differing_share, found.saturated_share) == (1.0, 0.0)


def test_the_worst_batch_counts() -> None:
    zeros = np.zeros((1, 2, 2, 3))
    assert Agreement.between([zeros, zeros], [zeros, zeros + 255]).psnr_db == pytest.approx(0)


def test_equal_images_have_a_psnr_that_json_can_hold() -> None:
    image = np.zeros((1, 2, 2, 3))
    found = Agreement.between([image], [image])
    assert json.loads(json.dumps(found.psnr_db, allow_nan=False)) == 200
    assert found.saturated_share == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_sample_fails_the_gate(bad: float) -> None:
    reference = np.zeros((1, 64, 64, 3), np.float32)
    candidate = reference.copy()
    candidate[0, 5, 5, 1] = bad
    with pytest.raises(VerificationError, match="PSNR -inf dB, needed are 50 dB"):
        require_psnr(Agreement.between([reference], [candidate]), "fp16", "x")


def test_rounding_is_half_up_and_clipped() -> None:
    values = np.array([-3, 0.49, 0.5, 1.5, 2.5, 254.5, 300])
    assert to_uint8(values).tolist() == [0, 0, 1, 2, 3, 255, 255]
