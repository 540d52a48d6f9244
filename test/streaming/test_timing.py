"""What a grid frame costs: of late, not once."""

import pytest

from step_ros.streaming.timing import Effort, Stopwatch

MS = 1_000_000


def add(effort, encode_ms, decide_ms=0, *, frames=1, windows=0):
    effort.add(frames=frames, encode_ns=encode_ms * MS, windows=windows, decide_ns=decide_ms * MS)


def test_before_the_first_batch_nothing_is_known():
    effort = Effort()
    assert effort.encode_ms == effort.decide_ms == effort.needed_ms == 0
    assert effort.recent_frame_ms() == []


def test_encoding_counts_by_frame_and_deciding_by_window():
    effort = Effort()
    add(effort, 60, 10, frames=3, windows=2)
    assert effort.encode_ms == pytest.approx(20)
    assert effort.decide_ms == pytest.approx(5)
    assert effort.needed_ms == pytest.approx(25)
    assert effort.recent_frame_ms() == pytest.approx([70 / 3])


def test_a_batch_without_windows_says_nothing_about_deciding():
    effort = Effort()
    add(effort, 20, 5, windows=1)
    add(effort, 20)
    assert effort.decide_ms == pytest.approx(5)


def test_one_batch_that_stumbles_is_passed_over_a_machine_that_slows_down_is_not():
    effort = Effort()
    for encode_ms in (20, 20, 2000, 20, 20):
        add(effort, encode_ms)
    assert effort.encode_ms == pytest.approx(20)
    for _ in range(3):
        add(effort, 50)
    assert effort.encode_ms == pytest.approx(50)
    assert max(effort.recent_frame_ms()) == pytest.approx(2000)


def test_a_stopwatch_adds_up_what_is_spent_within_it():
    stopwatch = Stopwatch()
    for _ in range(2):
        before = stopwatch.ns
        with stopwatch:
            sum(range(1000))
        assert stopwatch.ns > before
