# SPDX-License-Identifier: Apache-2.0
"""True labels, settled windows, and counts of hypotheses."""

import pytest

from step_ros.evaluation.ground_truth import (
    Observation,
    TaskPrediction,
    Truth,
    dropped_grid_frames,
    settled_accuracy,
)

SECOND = 1_000_000_000


@pytest.fixture
def truth() -> Truth:
    known = Truth()
    known.start('action', 'open drawer', 0)
    known.end('action', 'open drawer', 0, 2 * SECOND)
    known.start('action', 'close drawer', 2 * SECOND)
    return known


def observation(start, end, label, camera='front'):
    prediction = TaskPrediction(
        label=label, score=0.9, counterpart='', counterpart_score=0.0, order_evidence=0.0
    )
    return Observation(
        camera=camera,
        window_start_ns=round(start * SECOND),
        stamp_ns=round(end * SECOND),
        arrival_ns=round((end + 0.05) * SECOND),
        node_latency_ns=0,
        predictions={'action': prediction},
    )


def test_window_is_settled_inside_one_segment_only(truth):
    assert truth.settled('action', 0, 2 * SECOND) == 'open drawer'
    assert truth.settled('action', SECOND, 2 * SECOND + 1) == ''
    assert truth.settled('action', 2 * SECOND, 9 * SECOND) == 'close drawer'
    assert truth.settled('verb', 0, SECOND) == ''
    assert truth.at('action', SECOND) == 'open drawer'


def test_new_start_ends_the_open_segment(truth):
    truth.start('action', 'wave', 5 * SECOND)
    assert truth.settled('action', 4 * SECOND, 6 * SECOND) == ''
    assert truth.settled('action', 3 * SECOND, 5 * SECOND) == 'close drawer'


def test_end_without_its_start_adds_a_segment_in_order():
    truth = Truth()
    truth.start('action', 'wave', 3 * SECOND)
    truth.end('action', 'idle', SECOND, 3 * SECOND)
    assert [segment.label for segment in truth.segments['action']] == ['idle', 'wave']
    assert truth.at('action', 2 * SECOND) == 'idle'


def test_accuracy_counts_settled_windows_only(truth):
    seen = [
        observation(0.0, 1.4, 'open drawer'),
        observation(0.5, 1.9, 'close drawer'),  # wrong
        observation(1.0, 2.4, 'wave'),  # spans two actions: not judged
        observation(2.2, 3.6, 'close drawer'),
    ]
    assert settled_accuracy(seen, truth) == {'action': pytest.approx(2 / 3)}
    assert settled_accuracy(seen[2:3], truth) == {}


def test_latency_runs_from_stamp_to_arrival():
    assert observation(0.0, 1.4, 'wave').latency_ms == pytest.approx(50.0)


def test_missing_hypotheses_are_dropped_frames_per_camera():
    seen = [
        observation(0.0, 1.4, 'wave', 'left'),
        observation(0.1, 1.5, 'wave', 'right'),
        observation(0.2, 1.62, 'wave', 'left'),  # jitter is no loss
        observation(0.8, 2.2, 'wave', 'left'),  # two are missing
        observation(0.3, 1.7, 'wave', 'right'),
    ]
    assert dropped_grid_frames(seen, SECOND // 5) == 2
