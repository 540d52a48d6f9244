# SPDX-License-Identifier: Apache-2.0
"""The streaming recogniser: when windows restart, and which slots they miss."""

import pytest

from step_ros.streaming.recogniser import StreamingRecogniser

MS = 1_000_000
PERIOD = 100 * MS
FRAMES = 4
START = 1_700_000_000_000_000_000


# ---- restarts


def test_each_loop_of_a_stream_restarts_the_window(
    tiny_bundle, recogniser, make_film, expected_windows, assert_equals_whole_clips
):
    film = make_film()
    loop = film.steady(25, interval=60 * MS)
    rounds = [recogniser.process(loop) for _ in range(3)]
    windows, _ = expected_windows(loop)
    assert len(windows) > 5
    for hypotheses in rounds:
        assert_equals_whole_clips(tiny_bundle, hypotheses, windows)
    counts = recogniser.cameras['front'].counts
    assert (counts['start'], counts['jump'], counts['gap'], counts['late']) == (1, 2, 0, 0)


def test_short_step_back_is_late_and_a_long_one_a_jump(tiny_bundle, counting_encoder, film):
    recogniser = StreamingRecogniser(tiny_bundle, counting_encoder, jump_back=0.5)
    recogniser.process(film.steady(12))
    newest = START + 11 * PERIOD
    recogniser.process([film.frame(newest - 490 * MS)])
    stream = recogniser.cameras['front']
    assert stream.counts['late'] == 1
    assert len(stream.window) == FRAMES
    recogniser.process([film.frame(newest - 510 * MS)])
    assert stream.counts['jump'] == 1
    assert stream.window.stamps_ns == (newest - 510 * MS,)


@pytest.mark.parametrize(('options', 'longest'), [({}, 250 * MS), ({'max_gap': 0.8}, 800 * MS)])
def test_long_gap_restarts_the_window(options, longest, tiny_bundle, counting_encoder, film):
    for gap, restarts in ((longest, False), (longest + 1, True)):
        recogniser = StreamingRecogniser(tiny_bundle, counting_encoder, **options)
        recogniser.process(film.steady(5))
        begin = START + 4 * PERIOD + gap
        hypotheses = recogniser.process(film.steady(4, start=begin))
        stream = recogniser.cameras['front']
        assert stream.counts['gap'] == restarts
        # No hypothesis spans the gap.
        assert len(hypotheses) == (1 if restarts else 4)
        assert (hypotheses[0].window_start_ns == begin) == restarts


def test_reset_empties_windows_and_keeps_counters(recogniser, film):
    for camera in ('front', 'side'):
        recogniser.process(film.steady(5, camera=camera))
    recogniser.reset()
    assert [len(stream.window) for stream in recogniser.cameras.values()] == [0, 0]
    # The same stamps again are no duplicates.
    for camera in ('front', 'side'):
        counts_per_frame = [len(recogniser.process([f])) for f in film.steady(5, camera=camera)]
        assert counts_per_frame == [0, 0, 0, 1, 1]
        counts = recogniser.cameras[camera].counts
        assert (counts['received'], counts['start'], counts['new']) == (10, 2, 8)


# ---- missed slots


def test_missed_slots_count_within_a_window_only(recogniser, film):
    def process(*tenths):
        recogniser.process([film.frame(START + tenth * PERIOD) for tenth in tenths])
        return recogniser.cameras['front'].counts['missed_slots']

    assert process(0, 1, 2) == 0
    assert process(4) == 1
    assert process(6, 7) == 2
    assert process(20, 21) == 2  # a gap: the window restarts
    assert process(5, 7) == 3  # a jump back: the window restarts


def test_slot_filled_by_a_late_frame_is_not_missed(tiny_bundle, counting_encoder, film):
    recogniser = StreamingRecogniser(tiny_bundle, counting_encoder, order_tolerance=0.2)
    recogniser.process([film.frame(START + tenth * PERIOD) for tenth in (0, 2, 1, 3)])
    stream = recogniser.cameras['front']
    assert stream.counts['reordered'] == 1
    assert len(stream.window) == 4
    assert stream.counts['missed_slots'] == 0
