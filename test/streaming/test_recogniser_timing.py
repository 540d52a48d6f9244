# SPDX-License-Identifier: Apache-2.0
"""The streaming recogniser: cost of frames, skipped hypotheses, and losses by failure."""

import pytest

from step_ros.encoders.base import TorchEncoder, choose_device
from step_ros.streaming.recogniser import StreamingRecogniser

PERIOD = 100_000_000
START = 1_700_000_000_000_000_000


@pytest.mark.parametrize('head', ['step', 'linear'])
def test_newest_only_skips_older_windows(
    head,
    tiny_model,
    save_tiny_bundle,
    tmp_path,
    film,
    assert_equals_whole_clips,
    expected_hypothesis,
):
    bundle = save_tiny_bundle(tmp_path, tiny_model(head=head))
    encoder = TorchEncoder(bundle.model.backbone, device=choose_device('cpu'))
    recogniser = StreamingRecogniser(bundle, encoder)
    frames = film.steady(7)
    stream = recogniser.prepare('front')
    admitted = [stream.admit(frame) for frame in frames]
    (hypothesis,) = recogniser.recognise(admitted, newest_only=True)
    assert stream.counts['skipped_hypotheses'] == 3
    assert stream.used == 7
    # All frames entered the window: only hypotheses were skipped.
    expected = expected_hypothesis('front', frames[-1], frames[3:], frames[3].stamp_ns)
    assert_equals_whole_clips(bundle, [hypothesis], [expected])
    (following,) = recogniser.process([film.frame(START + 7 * PERIOD)])
    assert following.window_start_ns == frames[4].stamp_ns


def test_failing_model_counts_lost_frames(recogniser, counting_encoder, film, monkeypatch):
    def fail(images):
        raise MemoryError('no room')

    monkeypatch.setattr(counting_encoder, 'encode', fail)
    with pytest.raises(MemoryError):
        recogniser.process(film.steady(2))
    counts = recogniser.cameras['front'].counts
    assert counts == {'received': 2, 'failed': 2}
    assert recogniser.cameras['front'].used == 0


def test_any_error_of_load_is_counted_as_unreadable(recogniser, film):
    broken = film.frame(START, broken=MemoryError('no room'))
    assert recogniser.process([broken]) == []
    (problem,) = recogniser.problems
    assert (problem.cause, problem.detail) == ('unreadable', 'MemoryError: no room')
    assert recogniser.cameras['front'].counts['unreadable'] == 1


def test_cost_of_frames_is_measured(recogniser, film):
    recogniser.process(film.steady(4))
    assert recogniser.timing.encode_ms > 0
    assert recogniser.timing.predict_ms > 0
    assert len(recogniser.timing.recent_frame_ms()) == 1
