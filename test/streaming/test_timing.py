# SPDX-License-Identifier: Apache-2.0
"""The cost of a grid frame: medians of recent batches."""

import pytest

from step_ros.streaming.timing import FrameTiming, Stopwatch

MS = 1_000_000


def add_batch(timing, encode_ms, predict_ms=0, *, frames=1, windows=0):
    timing.add_batch(
        frames=frames, encode_ns=encode_ms * MS, windows=windows, predict_ns=predict_ms * MS
    )


def test_times_are_zero_before_the_first_batch():
    timing = FrameTiming()
    assert timing.encode_ms == timing.predict_ms == timing.cost_ms == 0
    assert timing.recent_frame_ms() == []


def test_encoding_counts_per_frame_and_heads_per_window():
    timing = FrameTiming()
    add_batch(timing, 60, 10, frames=3, windows=2)
    assert timing.encode_ms == pytest.approx(20)
    assert timing.predict_ms == pytest.approx(5)
    assert timing.cost_ms == pytest.approx(25)
    assert timing.recent_frame_ms() == pytest.approx([70 / 3])


def test_batch_without_windows_keeps_predict_ms():
    timing = FrameTiming()
    add_batch(timing, 20, 5, windows=1)
    add_batch(timing, 20)
    assert timing.predict_ms == pytest.approx(5)


def test_one_slow_batch_is_ignored_a_slower_machine_is_not():
    timing = FrameTiming()
    for encode_ms in (20, 20, 2000, 20, 20):
        add_batch(timing, encode_ms)
    assert timing.encode_ms == pytest.approx(20)
    for _ in range(3):
        add_batch(timing, 50)
    assert timing.encode_ms == pytest.approx(50)
    assert max(timing.recent_frame_ms()) == pytest.approx(2000)


def test_stopwatch_adds_up_time_inside_it():
    stopwatch = Stopwatch()
    for _ in range(2):
        before = stopwatch.ns
        with stopwatch:
            sum(range(1000))
        assert stopwatch.ns > before
