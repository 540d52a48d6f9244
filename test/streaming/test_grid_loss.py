# SPDX-License-Identifier: Apache-2.0
"""Lost grid frames are counted from the stamps of the hypotheses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.streaming.grid import grid_loss

PERIOD = 200
FRAMES = 40


def loss(stamps, end=FRAMES * PERIOD):
    return grid_loss(stamps, begin_ns=0, end_ns=end, frame_period_ns=PERIOD)


@given(
    phase=st.integers(0, PERIOD - 1),
    missing=st.sets(st.integers(1, FRAMES - 2)),
    data=st.data(),
)
def test_each_grid_frame_is_found_or_lost(phase, missing, data):
    # Frames jitter by a tenth of a period; the first and the last are not missing.
    stamps = [
        index * PERIOD + phase + data.draw(st.integers(-PERIOD // 10, PERIOD // 10))
        for index in range(FRAMES)
        if index not in missing
    ]
    inside = [stamp for stamp in stamps if 0 <= stamp < FRAMES * PERIOD]
    found, lost = loss(stamps)
    assert found == len(inside)
    assert lost == len(missing)


def test_missing_frames_at_the_edges_are_lost():
    assert loss([index * PERIOD + 100 for index in range(10, 30)]) == (20, 20)


def test_without_hypotheses_all_frames_are_lost():
    assert loss([]) == (0, FRAMES)
    assert loss([-PERIOD, FRAMES * PERIOD]) == (0, FRAMES)


def test_interval_that_ends_before_it_starts_is_refused():
    with pytest.raises(ValueError, match='from 0 to -1 ns'):
        loss([], end=-1)
