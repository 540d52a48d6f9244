# SPDX-License-Identifier: Apache-2.0
"""Sample clips: the stream's grid, spread windows, segments, and short clips."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.datasets.sampling import (
    latest_start,
    period_of_interval,
    random_window,
    segment_window,
    spread_windows,
    window_at,
)
from step_ros.streaming.grid import FrameGrid, GridSettings

MS = 1_000_000


def steady(count, rate=30.0):
    return np.round(np.arange(count) / rate * 1e9).astype(np.int64)


@st.composite
def jittery(draw):
    """Draw stamps of a video with a variable rate, a window length and a frame period."""
    count = draw(st.integers(1, 80))
    gaps = draw(st.lists(st.integers(20, 60), min_size=count, max_size=count))
    stamps = np.cumsum(gaps).astype(np.int64) * MS
    return stamps, draw(st.integers(1, 16)), draw(st.integers(40, 160)) * MS


def test_interval_of_two_takes_every_other_frame():
    stamps = steady(60)
    period = period_of_interval(stamps, 2)
    assert window_at(stamps, 3, frames=16, frame_period_ns=period) == list(range(3, 35, 2))


@given(case=jittery())
def test_window_has_the_frames_that_the_stream_keeps(case):
    stamps, frames, period = case
    settings = GridSettings(frame_period_ns=period, max_gap_ns=10 * period, jump_ns=10**12)
    grid, kept = FrameGrid(settings), []
    for index, stamp in enumerate(stamps):
        placement, slot = grid.place(int(stamp))
        if placement.on_grid:
            kept.append(index)
        grid.commit(placement, slot, int(stamp), keep=frames)
    wanted = kept[:frames]
    assert window_at(stamps, 0, frames=frames, frame_period_ns=period)[: len(wanted)] == wanted


@given(case=jittery(), clips=st.integers(1, 4), seed=st.integers(0, 99))
def test_windows_are_full_ascending_and_inside_the_clip(case, clips, seed):
    stamps, frames, period = case
    windows = spread_windows(stamps, frames=frames, frame_period_ns=period, clips=clips)
    rng = np.random.default_rng(seed)
    windows.append(random_window(stamps, frames=frames, frame_period_ns=period, rng=rng))
    windows.append(segment_window(stamps, frames=frames, rng=rng))
    windows.append(segment_window(stamps, frames=frames))
    assert len(windows) == clips + 3
    for window in windows:
        assert len(window) == frames
        assert window == sorted(window)
        assert 0 <= window[0] <= window[-1] < len(stamps)


@given(case=jittery())
def test_only_too_short_clips_are_padded(case):
    stamps, frames, period = case
    start = latest_start(stamps, frames=frames, frame_period_ns=period)
    window = window_at(stamps, start, frames=frames, frame_period_ns=period)
    if len(set(window)) < frames:
        assert start == 0
        assert window.count(window[-1]) == frames - len(set(window)) + 1


def test_spread_windows_reach_from_first_to_last_frame():
    stamps = steady(100)
    period = period_of_interval(stamps, 2)
    first, middle, last = spread_windows(stamps, frames=16, frame_period_ns=period, clips=3)
    assert first[0] == 0
    assert last[-1] in (98, 99)
    assert abs(sum(middle) / 16 - 49.5) < 2
    (only,) = spread_windows(stamps, frames=16, frame_period_ns=period, clips=1)
    assert only == middle


def test_short_clip_repeats_its_last_frame():
    """Drive&Act has clips of 4 frames."""
    assert window_at(steady(4), 0, frames=6, frame_period_ns=33 * MS) == [0, 1, 2, 3, 3, 3]


def test_random_windows_start_at_every_possible_frame():
    stamps = steady(40)
    period = period_of_interval(stamps, 2)
    rng = np.random.default_rng(0)
    starts = {
        random_window(stamps, frames=16, frame_period_ns=period, rng=rng)[0] for _ in range(300)
    }
    assert starts == set(range(latest_start(stamps, frames=16, frame_period_ns=period) + 1))


def test_segments_have_equal_length():
    assert segment_window(steady(32), frames=16) == list(range(1, 33, 2))
    rng = np.random.default_rng(0)
    for _ in range(20):
        window = segment_window(steady(48), frames=16, rng=rng)
        assert [index // 3 for index in window] == list(range(16))
    assert segment_window(steady(2), frames=4) == [0, 0, 1, 1]


def test_impossible_sampling_is_refused():
    with pytest.raises(ValueError, match='without frames'):
        segment_window([], frames=4)
    with pytest.raises(ValueError, match='clips=0'):
        spread_windows(steady(9), frames=4, frame_period_ns=MS, clips=0)
    with pytest.raises(ValueError, match='interval=0'):
        period_of_interval(steady(9), 0)
    with pytest.raises(ValueError, match='at least two frames'):
        period_of_interval([0], 2)
