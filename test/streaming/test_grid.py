# SPDX-License-Identifier: Apache-2.0
"""The temporal grid: stamps alone choose the grid frames."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.streaming.grid import NANOSECONDS, FrameGrid, Placement, grid_indices, slot_of

PERIOD = 1000


class Model:
    """A consumer of the grid: it holds the stamp of each of the newest slots."""

    def __init__(self, stream_settings, *, keep):
        self.grid, self.keep = FrameGrid(stream_settings), keep
        self.slots = {}

    def feed(self, stamps):
        for stamp in stamps:
            placement, slot = self.grid.place(stamp)
            if placement is Placement.LATE:
                continue
            self.grid.commit(placement, slot, stamp, keep=self.keep)
            if placement.restarts:
                self.slots.clear()
            if placement.on_grid:
                self.slots[slot] = stamp
                self.slots = dict(sorted(self.slots.items())[-self.keep :])
        return self.slots


def slot_by_counting(stamp, anchor, period):
    """Return the slot with the latest start that is not after the stamp."""
    begin, slot = anchor - round(0.1 * period), 0
    while begin + period <= stamp:
        begin, slot = begin + period, slot + 1
    return slot


periods = st.sampled_from([10, PERIOD, 33_333_333, NANOSECONDS // 10, NANOSECONDS // 7])


@st.composite
def ascending(draw, *, most=60):
    """Draw a period and ascending stamps, some equal, some far apart."""
    period = draw(periods)
    steps = draw(st.lists(st.integers(0, 3 * period), max_size=most))
    return period, list(itertools.accumulate(steps, initial=draw(st.integers(1, 10**18))))


# ---- slots


@pytest.mark.parametrize(
    ('after_anchor', 'slot'),
    [
        (-1101, -2),
        (-1100, -1),
        (-101, -1),
        (-100, 0),
        (0, 0),
        (899, 0),
        (900, 1),
        (1000, 1),
        (1899, 1),
        (1900, 2),
    ],
)
def test_slot_begins_a_tenth_of_a_period_early(after_anchor, slot):
    assert slot_of(5000 + after_anchor, anchor_ns=5000, frame_period_ns=PERIOD) == slot


# ---- clips


@given(ascending())
def test_at_most_one_frame_per_slot_and_the_earliest(period_stamps):
    period, stamps = period_stamps
    chosen = grid_indices(stamps, frame_period_ns=period)
    slots = [slot_by_counting(stamp, stamps[0], period) for stamp in stamps]
    earliest = [index for index, slot in enumerate(slots) if slot not in slots[:index]]
    assert chosen == earliest
    assert chosen[0] == 0
    assert len({slots[index] for index in chosen}) == len(chosen)


@given(ascending())
def test_arrays_and_lists_give_the_same_indices(period_stamps):
    period, stamps = period_stamps
    expected = grid_indices(stamps, frame_period_ns=period)
    assert grid_indices(np.array(stamps), frame_period_ns=period) == expected
    # Only differences between stamps matter.
    moved = [stamp + 12345 for stamp in stamps]
    assert grid_indices(moved, frame_period_ns=period) == expected


def test_no_frames_give_no_indices():
    assert grid_indices([], frame_period_ns=PERIOD) == []


@pytest.mark.parametrize(
    ('frame_rate', 'frame_period', 'step'),
    [(30, 0.1, 3), (60, 0.1, 6), (25, 0.2, 5), (10, 0.1, 1)],
)
def test_camera_at_a_multiple_of_the_grids_rate(frame_rate, frame_period, step):
    stamps = [round(index * NANOSECONDS / frame_rate) for index in range(200)]
    chosen = grid_indices(stamps, frame_period_ns=round(frame_period * NANOSECONDS))
    assert chosen == list(range(0, 200, step))


@given(data=st.data())
def test_camera_at_the_grids_own_rate_may_jitter(grid_settings, feed, data):
    period = data.draw(periods)
    # The distance of any two frames is less than a tenth of a period off.
    jitter = st.integers(0, max(0, period // 10 - 1))
    stamps = [1 + index * period + data.draw(jitter) for index in range(40)]
    assert grid_indices(stamps, frame_period_ns=period) == list(range(40))
    assert feed(FrameGrid(grid_settings(frame_period_ns=period)), stamps) == [
        Placement.START,
        *[Placement.NEW] * 39,
    ]


# ---- streams in order


@given(ascending(), st.integers(1, 8))
def test_stream_in_order_selects_what_a_clip_selects(grid_settings, feed, period_stamps, keep):
    period, stamps = period_stamps
    placements = feed(FrameGrid(grid_settings(frame_period_ns=period)), stamps, keep=keep)
    chosen = [index for index, placement in enumerate(placements) if placement.on_grid]
    assert chosen == grid_indices(stamps, frame_period_ns=period)
    assert placements[0] is Placement.START
    for index, (placement, before) in enumerate(
        zip(placements[1:], stamps, strict=False), start=1
    ):
        again = stamps[index] == before
        assert (placement is Placement.DUPLICATE) == again
        assert again or placement in (Placement.NEW, Placement.OFF_GRID)


@given(ascending(), st.integers(0, 5 * PERIOD))
def test_place_changes_nothing(grid_settings, period_stamps, other):
    period, stamps = period_stamps
    grid, watched = (FrameGrid(grid_settings(frame_period_ns=period)) for _ in range(2))
    for stamp in stamps:
        watched.place(stamp + other)
        watched.place(max(0, stamp - other))
        assert watched.place(stamp) == grid.place(stamp)
        for each in (grid, watched):
            each.commit(*each.place(stamp), stamp, keep=4)


@given(ascending(), st.integers(1, 60))
def test_uncommitted_frame_leaves_its_slot_to_the_next(grid_settings, period_stamps, at):
    period, stamps = period_stamps
    at = min(at, len(stamps) - 1)
    grid, chosen = FrameGrid(grid_settings(frame_period_ns=period)), []
    for index, stamp in enumerate(stamps):
        placement, slot = grid.place(stamp)
        if index == at and at > 0:
            continue
        if placement.on_grid:
            chosen.append(index)
        grid.commit(placement, slot, stamp, keep=4)
    readable = [index for index in range(len(stamps)) if index != at or at == 0]
    expected = grid_indices([stamps[index] for index in readable], frame_period_ns=period)
    assert chosen == [readable[index] for index in expected]


# ---- streams out of order


@st.composite
def out_of_order(draw):
    """Draw stamps in order of arrival: no frame lags by more than the tolerance."""
    period, stamps = draw(ascending(most=40))
    tolerance = draw(st.integers(0, 4 * period))
    stamps = sorted(set(stamps))
    # Sorted by stamp plus delay, a frame arrives after newer frames by at most its delay.
    delays = st.integers(0, tolerance)
    arrivals = sorted(stamps[1:], key=lambda stamp: stamp + draw(delays))
    return period, tolerance, [stamps[0], *arrivals]


@given(out_of_order(), st.integers(1, 8))
def test_order_of_arrival_does_not_matter(grid_settings, stream, keep):
    period, tolerance, arrivals = stream
    options = grid_settings(frame_period_ns=period, order_tolerance_ns=tolerance)
    assert Model(options, keep=keep).feed(arrivals) == Model(options, keep=keep).feed(
        sorted(arrivals)
    )
    chosen = [
        sorted(arrivals)[index] for index in grid_indices(sorted(arrivals), frame_period_ns=period)
    ]
    assert list(Model(options, keep=keep).feed(arrivals).values()) == chosen[-keep:]


@given(out_of_order(), st.integers(1, 8))
def test_arrival_within_the_tolerance_is_no_restart(grid_settings, feed, stream, keep):
    period, tolerance, arrivals = stream
    grid = FrameGrid(grid_settings(frame_period_ns=period, order_tolerance_ns=tolerance))
    placements = feed(grid, arrivals, keep=keep)
    assert [placement.restarts for placement in placements] == [
        True,
        *[False] * (len(arrivals) - 1),
    ]


@given(
    st.lists(st.integers(1, 40 * PERIOD), min_size=1, max_size=60),
    st.integers(0, 3 * PERIOD),
    st.integers(2 * PERIOD, 20 * PERIOD),
    st.integers(3 * PERIOD, 9 * PERIOD),
    st.integers(1, 6),
)
def test_slot_has_one_frame_for_any_stamps(grid_settings, stamps, tolerance, max_gap, jump, keep):
    options = grid_settings(order_tolerance_ns=tolerance, max_gap_ns=max_gap, jump_ns=jump)
    grid, held, anchor = FrameGrid(options), {}, None
    for stamp in stamps:
        placement, slot = grid.place(stamp)
        if placement is Placement.LATE:
            continue
        grid.commit(placement, slot, stamp, keep=keep)
        if placement.restarts:
            held, anchor = {}, stamp
            assert slot == 0
        if not placement.on_grid:
            continue
        assert slot == slot_of(stamp, anchor_ns=anchor, frame_period_ns=PERIOD)
        # Only an earlier frame replaces the one in a slot; a new slot is newer than all others.
        assert slot not in held or stamp < held[slot]
        assert (placement is Placement.NEW) == (bool(held) and slot > max(held))
        held[slot] = stamp
        held = dict(sorted(held.items())[-keep:])
        assert list(held.values()) == sorted(held.values())
