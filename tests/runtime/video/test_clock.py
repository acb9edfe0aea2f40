from dataclasses import dataclass

import pytest

from drc_deploy.runtime.video.clock import Clock


@dataclass
class Frame:
    pts: int | None
    dts: int | None


@pytest.mark.parametrize(
    ("pts", "dts", "times"),
    [
        ([0, 5, 7, 20], [None] * 4, [0, 5, 7, 20]),
        ([None] * 4, [1, 2, 3, 4], [1, 2, 3, 4]),  # AVI
        ([1, 3, 2, 5, 4, 7], [1, 2, 3, 4, 5, 6], [1, 3, 4, 5, 6, 7]),  # guesses in the order of the file
        ([0, 40, 40, 80], [None] * 4, [0, 40, 41, 80]),  # two pictures at one time
        ([None] * 3, [None] * 3, [0, 10, 20]),
        ([100, None, None, 140], [None] * 4, [100, 110, 120, 140]),
        ([-20, -10, 0], [None] * 3, [-20, -10, 0]),
    ],
)
def test_times_rise_and_are_the_best_known(pts: list[int | None], dts: list[int | None], times: list[int]) -> None:
    clock = Clock(10)
    assert [clock.time_of(Frame(*both)) for both in zip(pts, dts, strict=True)] == times
