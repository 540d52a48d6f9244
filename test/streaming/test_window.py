# SPDX-License-Identifier: Apache-2.0
"""The window: the T newest grid frames in their slots."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from step_ros.streaming.frame import FrameHeader
from step_ros.streaming.window import EncodedFrame, Window


def encoded(slot, *, stamp_ns=None):
    stamp_ns = 1000 + 100 * slot if stamp_ns is None else stamp_ns
    return EncodedFrame(
        header=FrameHeader(
            camera='front', frame_id=f'lens {slot}', stamp_ns=stamp_ns, received_ns=0
        ),
        slot=slot,
        tokens_nd=torch.full((2, 3), float(stamp_ns)),
    )


def window_of(*slots, frames=3):
    window = Window(frames)
    for slot in slots:
        window.insert(encoded(slot))
    return window


def test_window_fills_up_and_then_slides():
    window = Window(3)
    assert len(window) == 0
    assert not window.full
    for slot, expected in enumerate(
        [(1000,), (1000, 1100), (1000, 1100, 1200), (1100, 1200, 1300)]
    ):
        window.insert(encoded(slot))
        assert window.stamps_ns == expected
        assert len(window) == len(expected)
        assert window.full == (len(expected) == 3)
        assert (window.oldest.header.stamp_ns, window.newest.header.stamp_ns) == (
            expected[0],
            expected[-1],
        )


def test_late_frame_enters_at_its_slot():
    window = window_of(4, 7, 5)
    assert [window.oldest.slot, window.newest.slot] == [4, 7]
    assert window.stamps_ns == (1400, 1500, 1700)


def test_late_frame_pushes_the_oldest_out():
    assert window_of(4, 7, 8, 5).stamps_ns == (1500, 1700, 1800)


def test_frame_older_than_a_full_window_does_not_enter():
    assert window_of(4, 7, 8, 3).stamps_ns == (1400, 1700, 1800)


def test_frame_replaces_the_one_in_its_slot():
    window = window_of(4, 5, 6)
    window.insert(encoded(5, stamp_ns=1490))
    assert window.stamps_ns == (1400, 1490, 1600)
    assert window.full


@pytest.mark.parametrize('slots', [(4, 5, 6), (6, 4, 5)])
def test_tokens_are_oldest_first(slots):
    tokens_tnd = window_of(*slots).tokens_tnd()
    assert tokens_tnd.shape == (3, 2, 3)
    assert tokens_tnd[:, 0, 0].tolist() == [1400.0, 1500.0, 1600.0]


def test_stacked_tokens_do_not_change_later():
    window = window_of(4, 5, 6)
    tokens_tnd = window.tokens_tnd()
    window.insert(encoded(7))
    window.clear()
    assert tokens_tnd[:, 0, 0].tolist() == [1400.0, 1500.0, 1600.0]


def test_clear_empties_the_window():
    window = window_of(4, 5, 6)
    window.clear()
    assert len(window) == 0
    assert window.stamps_ns == ()
    assert not window.full
    window.insert(encoded(0))
    assert window.stamps_ns == (1000,)


def test_frames_without_tokens_cannot_be_stacked():
    window = window_of(4)
    window.insert(replace(encoded(5), tokens_nd=None))
    with pytest.raises(ValueError, match='without their tokens'):
        window.tokens_tnd()


@given(st.lists(st.integers(0, 12)), st.integers(1, 6))
def test_frame_keeps_a_place_of_its_own(slots, frames):
    window, place_of = Window(frames), {}
    for slot in slots:
        place = window.insert(encoded(slot))
        if place is not None:
            place_of[slot] = place
        held = sorted(set(place_of) & {s for s in range(13) if window.holds(s)})
        assert window.places == tuple(place_of[s] for s in held)
        assert len(set(window.places)) == len(window)
        assert set(window.places) <= set(range(frames))
        assert (place is None) == (not window.holds(slot))


@given(st.lists(st.integers(0, 12)), st.integers(1, 6))
def test_window_holds_the_newest_slots_in_any_order_of_arrival(slots, frames):
    window = window_of(*slots, frames=frames)
    newest = sorted(set(slots))[-frames:]
    assert window.stamps_ns == tuple(1000 + 100 * slot for slot in newest)
    assert window.full == (len(newest) == frames)
