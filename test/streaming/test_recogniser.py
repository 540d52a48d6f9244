# SPDX-License-Identifier: Apache-2.0
"""The streaming recogniser: it equals whole clips, and encodes each grid frame once."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from step_ros.encoders.base import TorchEncoder, choose_device
from step_ros.streaming.grid import grid_indices
from step_ros.streaming.recogniser import StreamingRecogniser

MS = 1_000_000
PERIOD = 100 * MS
FRAMES = 4
START = 1_700_000_000_000_000_000


def interleaved(random, streams):
    """Mix streams at random, each in its own order."""
    streams = [list(stream) for stream in streams]
    while any(streams):
        stream = streams[random.choice([i for i, each in enumerate(streams) if each])]
        yield stream.pop(0)


# ---- the stream equals the whole clip


@pytest.mark.parametrize('seed', range(4))
def test_every_window_of_a_long_stream_equals_the_whole_clip(
    seed,
    tiny_bundle,
    counting_encoder,
    make_film,
    expected_windows,
    assert_equals_whole_clips,
    random_stamps,
    batches,
):
    random = np.random.default_rng(seed)
    front, side = make_film(seed=seed), make_film(seed=seed + 100, size=(80, 96))
    frames = list(
        interleaved(
            random,
            [
                [front.frame(stamp) for stamp in random_stamps(random, 250)],
                [side.frame(stamp, camera='side') for stamp in random_stamps(random, 200)],
            ],
        )
    )
    recogniser = StreamingRecogniser(tiny_bundle, counting_encoder)
    hypotheses, calls = [], 0
    for batch in batches(random, frames):
        hypotheses += recogniser.process(batch)
        calls += 1
        assert not recogniser.problems
    windows, loaded = expected_windows(frames)
    assert Counter(each.camera for each in windows).keys() == {'front', 'side'}
    assert len(windows) > 50
    # Each grid frame is loaded and encoded once; other frames never are.
    assert Counter(front.loaded + side.loaded) == Counter(loaded)
    assert len(counting_encoder.images) == len(loaded)
    assert len({image.tobytes() for image in counting_encoder.images}) == len(loaded)
    assert len(counting_encoder.calls) <= calls
    assert_equals_whole_clips(tiny_bundle, _in_order(hypotheses), _in_order(windows))
    for camera, stream in recogniser.cameras.items():
        received = sum(frame.camera == camera for frame in frames)
        assert stream.counts['received'] == received
        placed = set(stream.counts) - {'received', 'missed_slots'}
        assert sum(stream.counts[key] for key in placed) == received
        assert {'start', 'gap', 'jump', 'new', 'off_grid', 'duplicate', 'late'} >= placed


def _in_order(results):
    """Sort by camera only: a batch may mix cameras, but each camera must keep its order."""
    return sorted(results, key=lambda each: each.camera)


def test_wrong_frames_exceed_the_tolerance(tiny_bundle, film, whole_clip_scores):
    # One wrong frame, or two swapped frames, change scores far more than the tolerance of 1e-4.
    clip = film.steady(FRAMES + 1)
    wrong = [clip[1:], [clip[1], clip[0], *clip[2:FRAMES]], [clip[0], clip[0], *clip[2:FRAMES]]]
    right = whole_clip_scores(tiny_bundle, [clip[:FRAMES]])
    for scores in (whole_clip_scores(tiny_bundle, [each]) for each in wrong):
        assert max(np.abs(scores[task] - right[task]).max() for task in right) > 1e-2


@pytest.mark.parametrize('seed', range(3))
def test_frames_out_of_order_fill_their_slots(
    seed,
    tiny_bundle,
    counting_encoder,
    make_film,
    expected_hypothesis,
    assert_equals_whole_clips,
    batches,
):
    random = np.random.default_rng(seed)
    film = make_film(seed=seed)
    stamps = START + np.cumsum(random.integers(20, 110, size=200)) * MS
    delays = np.concatenate([[0], random.integers(0, 250, size=199)]) * MS
    frames = [film.frame(int(stamp)) for stamp in stamps[np.argsort(stamps + delays)]]
    recogniser = StreamingRecogniser(
        tiny_bundle, counting_encoder, order_tolerance=0.25, max_gap=10.0
    )
    hypotheses = [each for batch in batches(random, frames) for each in recogniser.process(batch)]
    windows, newest_slot, chosen = [], -1, []
    for count in range(1, len(frames) + 1):
        arrived = sorted(frames[:count], key=lambda frame: frame.stamp_ns)
        indices = grid_indices([frame.stamp_ns for frame in arrived], frame_period_ns=PERIOD)
        chosen = [arrived[index] for index in indices]
        slot = (chosen[-1].stamp_ns - chosen[0].stamp_ns + PERIOD // 10) // PERIOD
        if slot > newest_slot and len(chosen) >= FRAMES:
            clip = chosen[-FRAMES:]
            windows.append(expected_hypothesis('front', clip[-1], clip, clip[0].stamp_ns))
        newest_slot = max(slot, newest_slot)
    assert recogniser.cameras['front'].counts['reordered'] > 10
    assert_equals_whole_clips(tiny_bundle, hypotheses, windows)
    stamps = tuple(frame.stamp_ns for frame in chosen[-FRAMES:])
    assert recogniser.cameras['front'].window.stamps_ns == stamps


@settings(max_examples=15)
@given(data=st.data())
def test_batching_does_not_change_hypotheses(tiny_bundle, make_film, data):
    film = make_film()
    frames = [
        frame
        for index in range(8)
        for frame in (
            film.frame(START + index * 60 * MS),
            film.frame(START + 7 * MS + index * 100 * MS, camera='side'),
        )
    ]
    encoder = TorchEncoder(tiny_bundle.model.backbone, device=choose_device('cpu'))
    whole = StreamingRecogniser(tiny_bundle, encoder).process(frames)
    recogniser, parts = StreamingRecogniser(tiny_bundle, encoder), []
    cuts = sorted(data.draw(st.sets(st.integers(0, len(frames)))))
    for begin, end in zip([0, *cuts], [*cuts, len(frames)], strict=True):
        parts += recogniser.process(frames[begin:end])
    assert len(whole) == len(parts) > 5
    for one, other in zip(whole, parts, strict=True):
        assert (one.camera, one.stamp_ns) == (other.camera, other.stamp_ns)
        for task, same in zip(one.tasks, other.tasks, strict=True):
            np.testing.assert_allclose(task.scores_k, same.scores_k, rtol=0, atol=1e-5)


def test_full_window_gives_a_hypothesis_per_grid_frame(recogniser, film):
    frames = film.steady(7, frame_id='lens', received_ns=12)
    per_frame = [recogniser.process([frame]) for frame in frames]
    assert [len(hypotheses) for hypotheses in per_frame] == [0, 0, 0, 1, 1, 1, 1]
    (hypothesis,) = per_frame[4]
    assert (hypothesis.camera, hypothesis.frame_id) == ('front', 'lens')
    assert hypothesis.stamp_ns == START + 4 * PERIOD
    assert hypothesis.window_start_ns == START + PERIOD
    assert hypothesis.received_ns == 12
    assert [task.spec.name for task in hypothesis.tasks] == ['action', 'verb', 'object']
    assert recogniser.process([]) == []
    recogniser.process(frames[-1:])
    assert recogniser.cameras['front'].counts == {
        'received': 8,
        'start': 1,
        'new': 6,
        'missed_slots': 0,
        'duplicate': 1,
    }


# ---- each grid frame once


def test_cameras_share_one_encoder_batch(recogniser, counting_encoder, film):
    frames = [
        film.frame(START + slot * PERIOD, camera=camera)
        for slot in range(3)
        for camera in ('front', 'side', 'wrist')
    ]
    recogniser.process(frames)
    assert [len(images) for images in counting_encoder.calls] == [9]


def test_frames_off_the_grid_are_not_loaded(recogniser, counting_encoder, film):
    recogniser.process(film.steady(1))
    for stamp in (0, 30, 89):
        assert recogniser.process([film.frame(START + stamp * MS)]) == []
    assert film.loaded == [('front', START)]
    assert len(counting_encoder.calls) == 1


def test_window_does_not_keep_a_batch_in_memory(tiny_bundle, counting_encoder, film):
    recogniser = StreamingRecogniser(tiny_bundle, counting_encoder, streaming=False)
    recogniser.process(film.steady(12))
    tokens_nd = recogniser.cameras['front'].window.newest.tokens_nd
    assert tokens_nd.untyped_storage().nbytes() == tokens_nd.numel() * tokens_nd.element_size()


# ---- cameras


def test_cameras_are_independent(tiny_bundle, counting_encoder, make_film, random_stamps, batches):
    random = np.random.default_rng(9)
    films = {camera: make_film(seed=seed) for seed, camera in enumerate(('front', 'side'))}
    streams = {
        camera: [film.frame(stamp, camera=camera) for stamp in random_stamps(random, 120)]
        for camera, film in films.items()
    }
    together = StreamingRecogniser(tiny_bundle, counting_encoder)
    mixed = [
        hypothesis
        for batch in batches(random, interleaved(random, streams.values()))
        for hypothesis in together.process(batch)
    ]
    for camera, frames in streams.items():
        alone = StreamingRecogniser(tiny_bundle, counting_encoder)
        expected = alone.process(frames)
        of_camera = [each for each in mixed if each.camera == camera]
        assert len(expected) > 10
        assert [each.stamp_ns for each in of_camera] == [each.stamp_ns for each in expected]
        for one, other in zip(of_camera, expected, strict=True):
            for task, same in zip(one.tasks, other.tasks, strict=True):
                np.testing.assert_allclose(task.scores_k, same.scores_k, rtol=0, atol=1e-5)
        assert together.cameras[camera].counts == alone.cameras[camera].counts


# ---- settings


@pytest.mark.parametrize(
    ('options', 'why'),
    [
        ({'max_gap': 0.1}, 'max_gap'),
        ({'max_gap': 0.0}, 'max_gap'),
        ({'order_tolerance': -0.1}, 'order_tolerance'),
        ({'order_tolerance': 1.1}, 'order_tolerance'),
        ({'order_tolerance': 0.3, 'jump_back': 0.2}, 'order_tolerance'),
        ({'jump_back': -1.0}, 'order_tolerance'),
    ],
)
def test_invalid_times_are_refused(options, why, tiny_bundle, counting_encoder):
    with pytest.raises(ValueError, match=why):
        StreamingRecogniser(tiny_bundle, counting_encoder, **options)


def test_times_are_seconds(tiny_bundle, counting_encoder):
    recogniser = StreamingRecogniser(
        tiny_bundle, counting_encoder, order_tolerance=0.05, max_gap=0.5, jump_back=2.0
    )
    assert recogniser.settings.frame_period_ns == PERIOD
    assert recogniser.settings.order_tolerance_ns == 50 * MS
    assert recogniser.settings.max_gap_ns == 500 * MS
    assert recogniser.settings.jump_ns == 2_000 * MS
    assert StreamingRecogniser(tiny_bundle, counting_encoder).settings.max_gap_ns == 250 * MS
