# SPDX-License-Identifier: Apache-2.0
"""Scores of small recordings, against figures worked out by hand."""

import numpy as np
import pytest

from step_ros.evaluation.events import TimedEvent
from step_ros.evaluation.ground_truth import Truth, TruthSegment
from step_ros.model.bundle_schema import TaskSpec
from step_ros.replay.results import CameraPredictions
from step_ros.replay.scores import Recording, coverage, score_task
from step_ros.streaming.postprocessing.events import Event, EventType

SECOND = 10**9
TASK = TaskSpec(
    name='action',
    labels=('idle', 'open', 'close'),
    counterparts={'open': 'close', 'close': 'open'},
)
IDLE, OPEN, CLOSE = range(3)


def recording(predictions, segments, *, evidence=None, events=()):
    """Return one hypothesis a second from second 2 on, over windows of two seconds."""
    stamps = np.arange(2, 2 + len(predictions)) * SECOND
    scores = np.full((len(predictions), 3), 0.1)
    scores[np.arange(len(predictions)), predictions] = 0.8
    truth = Truth()
    for label, start_s, end_s in segments:
        truth.segments['action'].append(
            TruthSegment(label=label, start_ns=start_s * SECOND, end_ns=end_s * SECOND)
        )
    return Recording(
        bag='bag',
        predictions=CameraPredictions(
            topic='/front',
            first_ns=0,
            last_ns=int(stamps[-1]),
            counts={},
            stamps_ns_h=stamps,
            starts_ns_h=stamps - 2 * SECOND,
            scores_hk={'action': scores},
            order_evidence_h={'action': np.asarray(evidence or [0.5] * len(predictions), float)},
            events=tuple(events),
        ),
        truth=truth,
    )


# Stamps 2 to 9. The label is 'open' until 5, unknown from 5 to 7, then 'close'.
ONE = recording(
    [OPEN, OPEN, CLOSE, IDLE, IDLE, OPEN, CLOSE, CLOSE],
    [('open', 0, 5), ('close', 7, 10)],
    evidence=[0.9, 0.8, 0.1, 0, 0, 0.3, 0.7, 0.6],
)


def score(*recordings):
    return score_task(recordings, TASK, ignored={'idle'})


def test_hypotheses_are_judged_at_their_newest_frame():
    found = score(ONE)
    # 2, 3, 4 open; 5 is the end of open, and no newer segment begins there; 6 unknown; 7 on close.
    assert ONE.targets(TASK).tolist() == [OPEN, OPEN, OPEN, OPEN, -1, CLOSE, CLOSE, CLOSE]
    assert (found['hypotheses'], found['judged']) == (8, 7)
    assert found['newest']['top1'] == pytest.approx(4 / 7, abs=1e-4)
    assert found['newest']['balanced'] == pytest.approx((2 / 4 + 2 / 3) / 2, abs=1e-4)
    assert found['newest']['symmetric_top1'] == found['newest']['top1']
    assert found['newest']['to_counterpart'] == pytest.approx(2 / 7, abs=1e-4)


def test_settled_windows_lie_in_one_segment():
    # Windows from 0-2 to 3-5, and 7-9.
    assert ONE.targets(TASK, settled=True).tolist() == [OPEN] * 4 + [-1] * 3 + [CLOSE]
    found = score(ONE)
    assert found['settled'] == 5
    assert found['settled_windows']['top1'] == pytest.approx(3 / 5)


def test_segments_skip_ignored_labels_and_unlabelled_time():
    # Predictions: open(2) close(1) [idle] [unknown] open(1) close(2); true: open(4), close(3).
    found = score(ONE)['segments']
    assert (found['true'], found['predicted']) == (2, 4)
    # Overlaps: open(2) 2/4; close(1) 0 with the later close; close(2) 2/3.
    assert found['f1_50'] == pytest.approx(2 * 2 / (2 * 2 + 2), abs=1e-4)
    assert found['edit'] == pytest.approx(1 - 2 / 4)


def test_order_evidence_of_correct_and_wrong_predictions():
    found = score(ONE)['order_evidence']
    assert found['right'] == {
        'count': 4,
        'mean': pytest.approx(0.75),
        'p50': pytest.approx(0.75),
        'p95': pytest.approx(0.885),
    }
    assert (found['wrong']['count'], found['wrong']['mean']) == (2, pytest.approx(0.2))
    assert found['to_counterpart'] == found['wrong']


def test_recordings_are_pooled_and_unlabelled_ones_skipped():
    other = recording([CLOSE] * 3, [('close', 0, 9)])
    unlabelled = recording([CLOSE] * 3, [])
    found = score(ONE, other, unlabelled)
    assert found['judged'] == 10
    assert found['newest']['top1'] == pytest.approx(7 / 10)
    assert found['segments']['edit'] == pytest.approx((0.5 + 1) / 2)
    found = score(unlabelled)
    assert (found['judged'], found['newest'], found['segments']) == (0, None, None)


def test_events_are_scored_against_the_segments_of_their_task():
    event = Event(
        camera='/front',
        frame_id='',
        task='action',
        label='open',
        type=EventType.START,
        stamp_ns=2 * SECOND,
        start_ns=2 * SECOND,
        score=0.8,
        order_evidence=0.5,
    )
    one = recording(
        [OPEN] * 4, [('open', 1, 6)], events=[TimedEvent(event=event, published_ns=3 * SECOND)]
    )
    found = score(one)['events']
    assert (found['actions'], found['told'], found['told_share']) == (1, 1, 1.0)
    assert found['delay_s'] == {'p50': 2.0, 'p95': 2.0}
    assert found['false_per_minute'] == 0.0


def test_coverage_ends_when_a_prediction_is_too_old():
    predictions = recording([OPEN] * 3, []).predictions  # 0 to 4; predictions at 2, 3, 4
    assert coverage(predictions, max_age_ns=SECOND) == pytest.approx(2 / 4)
    assert coverage(predictions, max_age_ns=SECOND // 2) == pytest.approx(1 / 4)
