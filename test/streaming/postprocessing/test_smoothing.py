# SPDX-License-Identifier: Apache-2.0
"""Smoothing: laws of the exponential, and where it starts afresh."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis
from step_ros.streaming.postprocessing.smoothing import ScoreSmoother

MS = 1_000_000
ZERO = 1_700_000_000 * 1000 * MS
SPEC = TaskSpec(name='action', labels=('idle', 'open', 'close'))


def make(stamp_ns, scores, *, camera='front', spec=SPEC, window_ns=300 * MS):
    task = TaskHypothesis(spec=spec, scores_k=np.asarray(scores, float), order_evidence=0.25)
    return Hypothesis(
        camera=camera,
        frame_id='optical',
        stamp_ns=stamp_ns,
        window_start_ns=stamp_ns - window_ns,
        received_ns=7,
        tasks=(task,),
    )


def scores_of(hypothesis):
    return hypothesis.tasks[0].scores_k


def test_step_is_followed_exponentially():
    smoother = ScoreSmoother(0.5, max_gap_ns=250 * MS)
    smoother.smooth(make(ZERO, [1, 0, 0]))
    for number in range(1, 8):
        smoothed = smoother.smooth(make(ZERO + number * 100 * MS, [0, 1, 0]))
        left = math.exp(-number * 0.1 / 0.5)
        np.testing.assert_allclose(scores_of(smoothed), [left, 1 - left, 0], atol=1e-12)
    assert smoothed.tasks[0].order_evidence == 0.25
    assert (smoothed.received_ns, smoothed.frame_id) == (7, 'optical')


@given(st.integers(1, 249), st.floats(0.01, 10))
def test_lost_hypothesis_does_not_change_constant_scores(step_ms, tau):
    with_it, without_it = (ScoreSmoother(tau, max_gap_ns=500 * MS) for _ in range(2))
    for smoother in (with_it, without_it):
        smoother.smooth(make(ZERO, [0.2, 0.8, 0]))
    with_it.smooth(make(ZERO + step_ms * MS, [0.6, 0.1, 0.3]))
    last = make(ZERO + 2 * step_ms * MS, [0.6, 0.1, 0.3])
    np.testing.assert_allclose(
        scores_of(with_it.smooth(last)), scores_of(without_it.smooth(last)), atol=1e-12
    )


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
            st.sampled_from([100, 100, 100, 900, 0, -700]),
            st.sampled_from([0.0, 0.3, 5.0]),
        ),
        max_size=30,
    )
)
def test_smoothed_scores_stay_probabilities(course):
    smoother = ScoreSmoother(1.0, max_gap_ns=250 * MS)
    stamp_ns = ZERO
    for weights, step_ms, tau in course:
        smoother.time_constant = tau
        stamp_ns += step_ms * MS
        scores_k = scores_of(smoother.smooth(make(stamp_ns, np.array(weights) / sum(weights))))
        assert scores_k.min() >= 0
        assert scores_k.sum() == pytest.approx(1)


def test_time_constant_zero_changes_nothing():
    smoother = ScoreSmoother(0.0, max_gap_ns=250 * MS)
    for number, scores in enumerate(([1, 0, 0], [0, 1, 0])):
        given_one = make(ZERO + number * 100 * MS, scores)
        assert smoother.smooth(given_one) is given_one


@pytest.mark.parametrize('stamp_ns', [ZERO - 1, ZERO - 9_000 * MS, ZERO + 551 * MS])
def test_scores_start_afresh_after_a_jump_or_gap(stamp_ns):
    smoother = ScoreSmoother(0.5, max_gap_ns=250 * MS)
    smoother.smooth(make(ZERO, [1, 0, 0]))
    np.testing.assert_array_equal(scores_of(smoother.smooth(make(stamp_ns, [0, 1, 0]))), [0, 1, 0])


def test_scores_start_afresh_per_reset_camera_and_task():
    smoother = ScoreSmoother(0.5, max_gap_ns=250 * MS)
    smoother.smooth(make(ZERO, [1, 0, 0]))
    later = ZERO + 100 * MS
    verb = TaskSpec(name='verb', labels=SPEC.labels)
    for fresh in (make(later, [0, 1, 0], camera='side'), make(later, [0, 1, 0], spec=verb)):
        np.testing.assert_array_equal(scores_of(smoother.smooth(fresh)), [0, 1, 0])
    smoother.reset()
    fresh = make(later + 100 * MS, [0, 0, 1])
    np.testing.assert_array_equal(scores_of(smoother.smooth(fresh)), [0, 0, 1])


@pytest.mark.parametrize('seconds', [-0.1, math.nan, math.inf])
def test_invalid_time_constant_is_refused(seconds):
    with pytest.raises(ValueError, match='expected a time constant'):
        ScoreSmoother(seconds, max_gap_ns=1)
    smoother = ScoreSmoother(1.0, max_gap_ns=1)
    with pytest.raises(ValueError, match='expected a time constant'):
        smoother.time_constant = seconds
    assert smoother.time_constant == 1.0
