"""What a grid frame costs: of late, not once."""

import pytest

from step_ros.streaming.timing import FrameTiming, Stopwatch

MS = 1_000_000


def add(timing, encode_ms, predict_ms=0, *, frames=1, windows=0):
    timing.add_batch(
        frames=frames, encode_ns=encode_ms * MS, windows=windows, predict_ns=predict_ms * MS
    )


def test_before_the_first_batch_nothing_is_known():
    timing = FrameTiming()
    assert timing.encode_ms == timing.predict_ms == timing.cost_ms == 0
    assert timing.recent_frame_ms() == []


def test_encoding_counts_by_frame_and_deciding_by_window():
    timing = FrameTiming()
    add(timing, 60, 10, frames=3, windows=2)
    assert timing.encode_ms == pytest.approx(20)
    assert timing.predict_ms == pytest.approx(5)
    assert timing.cost_ms == pytest.approx(25)
    assert timing.recent_frame_ms() == pytest.approx([70 / 3])


def test_a_batch_without_windows_says_nothing_about_deciding():
    timing = FrameTiming()
    add(timing, 20, 5, windows=1)
    add(timing, 20)
    assert timing.predict_ms == pytest.approx(5)


def test_one_batch_that_stumbles_is_passed_over_a_machine_that_slows_down_is_not():
    timing = FrameTiming()
    for encode_ms in (20, 20, 2000, 20, 20):
        add(timing, encode_ms)
    assert timing.encode_ms == pytest.approx(20)
    for _ in range(3):
        add(timing, 50)
    assert timing.encode_ms == pytest.approx(50)
    assert max(timing.recent_frame_ms()) == pytest.approx(2000)


def test_a_stopwatch_adds_up_what_is_spent_within_it():
    stopwatch = Stopwatch()
    for _ in range(2):
        before = stopwatch.ns
        with stopwatch:
            sum(range(1000))
        assert stopwatch.ns > before
