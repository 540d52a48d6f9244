# SPDX-License-Identifier: Apache-2.0
"""The streaming recogniser: unusable frames leave their slots to others."""

import numpy as np
import pytest

from step_ros.images.errors import FrameError
from step_ros.streaming.recogniser import StreamingRecogniser

MS = 1_000_000
PERIOD = 100 * MS
START = 1_700_000_000_000_000_000


def unreadable():
    return FrameError('unknown_encoding', "encoding 'odd'; expected rgb8")


def test_next_frame_takes_the_slot_of_an_unreadable_one(
    tiny_bundle, recogniser, counting_encoder, film, expected_hypothesis, assert_equals_whole_clips
):
    frames = film.steady(3)
    frames += [
        film.frame(START + 300 * MS, broken=unreadable()),
        film.frame(START + 330 * MS, broken=unreadable()),
        film.frame(START + 360 * MS),
        film.frame(START + 380 * MS),
    ]
    hypotheses = recogniser.process(frames)
    assert [(each.camera, each.cause) for each in recogniser.problems] == [
        ('front', 'unknown_encoding')
    ] * 2
    assert recogniser.problems[0].detail == "encoding 'odd'; expected rgb8"
    counts = recogniser.cameras['front'].counts
    assert (counts['unknown_encoding'], counts['missed_slots'], counts['off_grid']) == (2, 0, 1)
    assert len(counting_encoder.images) == 4
    clip = [*frames[:3], frames[5]]
    assert_equals_whole_clips(
        tiny_bundle, hypotheses, [expected_hypothesis('front', clip[-1], clip, START)]
    )
    recogniser.process([film.frame(START + 400 * MS)])
    assert recogniser.problems == []


@pytest.mark.parametrize('seed', range(2))
def test_long_stream_with_unreadable_frames_equals_whole_clips(
    seed,
    tiny_bundle,
    counting_encoder,
    make_film,
    expected_windows,
    assert_equals_whole_clips,
    random_stamps,
    batches,
):
    random, film = np.random.default_rng(seed), make_film(seed=seed)
    stamps = list(dict.fromkeys(random_stamps(random, 300)))
    broken = {('front', stamp) for stamp in stamps if random.random() < 0.3}
    frames = [
        film.frame(stamp, broken=unreadable() if ('front', stamp) in broken else None)
        for stamp in stamps
    ]
    recogniser, hypotheses, problems = StreamingRecogniser(tiny_bundle, counting_encoder), [], 0
    for batch in batches(random, frames):
        hypotheses += recogniser.process(batch)
        problems += len(recogniser.problems)
    windows, loaded = expected_windows(frames, broken=broken)
    assert film.loaded == loaded
    assert problems == len(broken.intersection(loaded)) > 10
    assert recogniser.cameras['front'].counts['unknown_encoding'] == problems
    assert_equals_whole_clips(tiny_bundle, hypotheses, windows)


def test_unreadable_first_frame_does_not_start_the_grid(recogniser, film):
    frames = [film.frame(START, broken=unreadable()), *film.steady(4, start=START + 50 * MS)]
    (hypothesis,) = recogniser.process(frames)
    assert hypothesis.window_start_ns == START + 50 * MS
    assert recogniser.cameras['front'].counts['start'] == 1


def test_unreadable_frame_after_a_gap_keeps_the_gap_open(recogniser, film):
    frames = film.steady(4)
    frames += [film.frame(START + 900 * MS, broken=unreadable())]
    frames += film.steady(4, start=START + 930 * MS)
    first, second = recogniser.process(frames)
    assert (first.window_start_ns, second.window_start_ns) == (START, START + 930 * MS)
    assert recogniser.cameras['front'].counts['gap'] == 1


def test_stamps_beyond_ros_time_are_refused(recogniser, film):
    end_ns = 2**31 * 1_000_000_000
    frames = film.steady(4, start=end_ns - 4 * 100 * MS)
    (hypothesis,) = recogniser.process([*frames, film.frame(end_ns)])
    (problem,) = recogniser.problems
    assert problem.cause == 'impossible_stamp'
    assert hypothesis.stamp_ns == frames[-1].stamp_ns
    assert recogniser.cameras['front'].counts['impossible_stamp'] == 1


@pytest.mark.parametrize('stamp_ns', [0, -1])
def test_frames_without_a_stamp_are_refused(stamp_ns, recogniser, film):
    for _ in range(2):
        assert recogniser.process([film.frame(stamp_ns, camera='side')]) == []
        (problem,) = recogniser.problems
        assert (problem.camera, problem.cause) == ('side', 'zero_stamp')
        assert 'stamp' in problem.detail
    assert recogniser.cameras['side'].counts == {'received': 2, 'zero_stamp': 2}
    assert film.loaded == []
    # They do not disturb a running stream.
    frames = film.steady(4)
    frames.insert(2, film.frame(stamp_ns))
    assert len(recogniser.process(frames)) == 1


def test_reset_recovers_from_an_encoder_failure(
    tiny_bundle,
    recogniser,
    counting_encoder,
    film,
    monkeypatch,
    expected_hypothesis,
    assert_equals_whole_clips,
):
    recogniser.process(film.steady(2))
    with monkeypatch.context() as patch:
        patch.setattr(counting_encoder, 'encoder', None)
        with pytest.raises(AttributeError):
            recogniser.process(film.steady(2, start=START + 2 * PERIOD))
    recogniser.reset()
    clip = film.steady(4, start=START + 3 * PERIOD)
    assert_equals_whole_clips(
        tiny_bundle,
        recogniser.process(clip),
        [expected_hypothesis('front', clip[-1], clip, clip[0].stamp_ns)],
    )
