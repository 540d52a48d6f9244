# SPDX-License-Identifier: Apache-2.0
"""The temporal grid: the placement of a frame, by its stamp and the settings."""

import pytest

from step_ros.streaming.grid import NANOSECONDS, FrameGrid, GridSettings, Placement

PERIOD = 1000


# ---- placements


def test_duplicates(grid_settings, feed):
    stream = [5000, 5000, 6000, 6000, 6300, 6300]
    assert feed(FrameGrid(grid_settings()), stream) == [
        Placement.START,
        Placement.DUPLICATE,
        Placement.NEW,
        Placement.DUPLICATE,
        Placement.OFF_GRID,
        Placement.DUPLICATE,
    ]


def test_repeated_grid_frame_is_a_duplicate_however_late(grid_settings, feed):
    stream = [5000, 6000, 7000, 5000, 6000, 7000]
    assert feed(FrameGrid(grid_settings()), stream)[3:] == [Placement.DUPLICATE] * 3


@pytest.mark.parametrize('behind', [1, 998, 1000, 1001, 1500])
@pytest.mark.parametrize('tolerance', [0, 1000, 1500])
def test_frame_behind_the_tolerance_is_late(behind, tolerance, grid_settings, feed):
    # 11999 is off the grid, but it counts as the newest stamp.
    grid = FrameGrid(grid_settings(order_tolerance_ns=tolerance))
    feed(grid, [9000, 11_000, 11_500, 11_999])
    placement, _ = grid.place(11_999 - behind)
    assert (placement is Placement.LATE) == (behind > tolerance)


def test_late_frame_fills_its_slot(grid_settings, feed):
    grid = FrameGrid(grid_settings(order_tolerance_ns=2000))
    stream = [5000, 7000, 6100, 6000, 6050, 8000, 7950]
    assert feed(grid, stream) == [
        Placement.START,
        Placement.NEW,
        Placement.REORDERED,
        Placement.REORDERED,  # earlier than the one in its slot
        Placement.OFF_GRID,
        Placement.NEW,
        Placement.REORDERED,
    ]


def test_frame_older_than_the_window_is_late(grid_settings, feed):
    grid = FrameGrid(grid_settings(order_tolerance_ns=9000))
    feed(grid, [5000, 6000, 8000, 9000], keep=2)
    assert grid.place(7000) == (Placement.LATE, 2)
    assert grid.place(5500) == (Placement.LATE, 0)
    assert grid.place(7950) == (Placement.REORDERED, 3)


def test_frame_before_the_first_slot_is_late(grid_settings, feed):
    grid = FrameGrid(grid_settings(order_tolerance_ns=9000))
    feed(grid, [5000, 6000])
    assert grid.place(4000)[0] is Placement.LATE
    assert grid.place(4899)[0] is Placement.LATE
    # The first slot starts a tenth of a period before the first frame.
    assert grid.place(4900) == (Placement.REORDERED, 0)


@pytest.mark.parametrize(('after', 'restarts'), [(2000, False), (2500, False), (2501, True)])
def test_long_gap_restarts_at_the_frame_after_it(after, restarts, grid_settings, feed):
    grid = FrameGrid(grid_settings(max_gap_ns=2500))
    feed(grid, [5000, 6000])
    placement, slot = grid.place(6000 + after)
    assert placement is (Placement.GAP if restarts else Placement.NEW)
    grid.commit(placement, slot, 6000 + after, keep=4)
    # After a restart, slots count from this frame.
    assert grid.place(6000 + after + 950)[1] == (1 if restarts else (after + 1950 + 100) // 1000)


def test_frames_off_the_grid_do_not_bridge_a_gap(grid_settings, feed):
    # Only grid frames are in the window, so the gap counts between those.
    grid = FrameGrid(grid_settings(max_gap_ns=2500))
    feed(grid, [5000, 5800])
    assert grid.place(7501)[0] is Placement.GAP
    assert grid.place(7500)[0] is Placement.NEW


def test_late_frame_does_not_make_a_gap(grid_settings, feed):
    grid = FrameGrid(grid_settings(max_gap_ns=2500, order_tolerance_ns=2000))
    feed(grid, [5000, 7000, 6000])
    assert grid.place(9500)[0] is Placement.NEW
    assert grid.place(9501)[0] is Placement.GAP


@pytest.mark.parametrize(('behind', 'placement'), [(3000, Placement.LATE), (3001, Placement.JUMP)])
def test_jump_back_restarts_the_window(behind, placement, grid_settings, feed):
    grid = FrameGrid(grid_settings(jump_ns=3000))
    feed(grid, [9000, 10_000])
    assert grid.place(10_000 - behind)[0] is placement


def test_each_loop_of_a_stream_is_placed_alike(grid_settings, feed):
    loop = [9000, 9400, 10_000, 10_450, 11_000, 13_000, 13_100]
    grid = FrameGrid(grid_settings(jump_ns=3000))
    first, second, third = (feed(grid, loop) for _ in range(3))
    assert second == third == [Placement.JUMP, *first[1:]]


def test_one_stamp_far_ahead_does_not_block_the_stream(grid_settings, feed):
    grid = FrameGrid(grid_settings(jump_ns=3000, max_gap_ns=2500))
    placements = feed(grid, [9000, 10_000, 99_000, 11_000, 12_000, 13_000])
    assert placements[2:] == [Placement.GAP, Placement.JUMP, Placement.NEW, Placement.NEW]


def test_reset_forgets_everything(grid_settings, feed):
    grid = FrameGrid(grid_settings())
    feed(grid, [9000, 10_000])
    grid.reset()
    assert feed(grid, [9500, 10_400, 10_500]) == [
        Placement.START,
        Placement.NEW,
        Placement.OFF_GRID,
    ]


def test_properties_of_placements():
    restarts = {Placement.START, Placement.GAP, Placement.JUMP}
    on_grid = restarts | {Placement.NEW, Placement.REORDERED}
    assert {placement for placement in Placement if placement.restarts} == restarts
    assert {placement for placement in Placement if placement.on_grid} == on_grid


# ---- settings


@pytest.mark.parametrize(
    ('changes', 'why'),
    [
        ({'frame_period_ns': 0}, 'frame_period_ns=0'),
        ({'frame_period_ns': -1}, 'frame_period_ns=-1'),
        ({'max_gap_ns': 1099}, 'max_gap.*too short'),
        ({'max_gap_ns': 0}, 'max_gap.*too short'),
        ({'order_tolerance_ns': -1}, 'order_tolerance'),
        ({'order_tolerance_ns': 5001, 'jump_ns': 5000}, 'order_tolerance.*jump back'),
        ({'jump_ns': -1}, 'order_tolerance'),
    ],
)
def test_invalid_settings_are_refused(changes, why, grid_settings):
    with pytest.raises(ValueError, match=why):
        grid_settings(**changes)


def test_limits_are_valid_settings(grid_settings):
    assert grid_settings(max_gap_ns=1100).max_gap_ns == 1100
    assert grid_settings(order_tolerance_ns=5000, jump_ns=5000).order_tolerance_ns == 5000
    defaults = GridSettings(frame_period_ns=PERIOD, max_gap_ns=2500)
    assert (defaults.order_tolerance_ns, defaults.jump_ns) == (0, NANOSECONDS)
