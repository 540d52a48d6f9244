# SPDX-License-Identifier: Apache-2.0
"""Waiting for an action: what ends the wait, invalid goals, and the best candidate."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis
from step_ros.streaming.postprocessing.event_goal import ActionWait, StartLimits, WaitGoal
from step_ros.streaming.postprocessing.events import EventDetector, EventSettings

MS = 1_000_000
PERIOD = 100 * MS
ZERO = 1_000_000_000
ACTION = TaskSpec(name='action', labels=('idle', 'open', 'close'))
VERB = TaskSpec(name='verb', labels=('rest', 'turn'))
SETTINGS = EventSettings(
    on_threshold=0.6, off_threshold=0.5, minimum_duration_ns=2 * PERIOD, minimum_gap_ns=0
)


def make_hypothesis(number, label, score, *, camera='front', evidence=0.5):
    rest = (1 - score) / 2
    scores_k = np.array([score if name == label else rest for name in ACTION.labels])
    verb = TaskHypothesis(spec=VERB, scores_k=np.array([0.9, 0.1]), order_evidence=evidence)
    return Hypothesis(
        camera=camera,
        frame_id='',
        stamp_ns=ZERO + number * PERIOD,
        window_start_ns=ZERO + (number - 3) * PERIOD,
        received_ns=0,
        tasks=(TaskHypothesis(spec=ACTION, scores_k=scores_k, order_evidence=evidence), verb),
    )


class Stream:
    """Hypotheses of one detector, with their events."""

    def __init__(self):
        self.detector = EventDetector(SETTINGS, max_gap_ns=250 * MS)
        self.number = 0

    def play(self, label, score, *, times=1, wait=None, **fields):
        """Add hypotheses; return the number of the one that ends the wait, and its event."""
        for _ in range(times):
            self.number += 1
            hypothesis = make_hypothesis(self.number, label, score, **fields)
            self.detector.add_hypothesis(hypothesis)
            events = self.detector.open_events(hypothesis.camera)
            if wait is not None and (event := wait.add_hypothesis(hypothesis, events)):
                return self.number, event
        return None


def test_wait_ends_when_the_event_starts():
    wait = ActionWait(WaitGoal(task='action', labels=frozenset({'open'})))
    number, event = Stream().play('open', 0.8, times=9, wait=wait)
    assert number == 3
    assert (event.task, event.label, event.stamp_ns) == ('action', 'open', ZERO + PERIOD)
    assert event.score == pytest.approx(0.8)
    assert event.order_evidence == pytest.approx(0.5)


@pytest.mark.parametrize(
    'goal',
    [
        WaitGoal(labels=frozenset({'close'})),
        WaitGoal(task='verb', labels=frozenset({'turn'})),
        WaitGoal(task='action', camera='side'),
        WaitGoal(task='action', minimum_score=0.9),
        WaitGoal(task='action', minimum_order_evidence=0.6),
        WaitGoal(task='action', minimum_duration_ns=10 * PERIOD),
    ],
)
def test_another_event_does_not_end_the_wait(goal):
    assert Stream().play('open', 0.8, times=9, wait=ActionWait(goal)) is None


def test_wait_lasts_until_duration_and_score_suffice():
    goal = WaitGoal(task='action', minimum_score=0.85, minimum_duration_ns=3 * PERIOD)
    stream, wait = Stream(), ActionWait(goal)
    assert stream.play('open', 0.8, times=3, wait=wait) is None
    # Means of 3 x 0.8 and n x 0.95: 0.86 at the second.
    assert stream.play('open', 0.95, times=9, wait=wait)[0] == 5


def test_missing_order_evidence_does_not_suffice():
    stream = Stream()
    wait = ActionWait(WaitGoal(task='action', minimum_order_evidence=0.01))
    assert stream.play('open', 0.8, times=5, wait=wait, evidence=math.nan) is None
    assert Stream().play(
        'open', 0.8, times=5, wait=ActionWait(WaitGoal(task='action')), evidence=math.nan
    )


def test_open_event_counts_only_with_include_current():
    stream = Stream()
    stream.play('open', 0.8, times=4)
    current = stream.detector.open_events('front')
    assert [event.label for event in current if event.task == 'action'] == ['open']
    goal = WaitGoal(task='action')
    assert stream.play('open', 0.8, times=4, wait=ActionWait(goal, current)) is None
    inclusive = ActionWait(replace(goal, include_current=True), current)
    assert stream.play('open', 0.8, wait=inclusive)[1].label == 'open'
    # The next event counts in either case.
    other = ActionWait(goal, current)
    assert stream.play('close', 0.8, times=4, wait=other)[1].label == 'close'
    assert stream.play('open', 0.8, times=4, wait=ActionWait(goal))[1].label == 'open'


def test_best_candidate_is_a_wanted_label_of_any_camera():
    stream = Stream()
    wait = ActionWait(WaitGoal(task='action', labels=frozenset({'open', 'close'})))
    assert wait.best is None
    stream.play('idle', 0.8, wait=wait)
    assert wait.best.score == pytest.approx(0.1)
    stream.play('open', 0.3, wait=wait, camera='side', evidence=0.25)
    assert (wait.best.camera, wait.best.label, wait.best.held_ns) == ('side', 'close', 0)
    assert (wait.best.score, wait.best.order_evidence) == pytest.approx((0.35, 0.25))
    waiting = ActionWait(WaitGoal(task='action', minimum_duration_ns=10 * PERIOD))
    stream.play('open', 0.8, times=6, wait=waiting)
    assert (waiting.best.label, waiting.best.held_ns) == ('open', 5 * PERIOD)


@pytest.mark.parametrize(
    ('goal', 'expected'),
    [
        (WaitGoal(camera='back'), "camera='back'; expected one of: front, side"),
        (WaitGoal(task='noun'), "task='noun'; expected one of: action, verb"),
        (WaitGoal(labels=frozenset({'fly'})), r"labels=\['fly'\] are no labels of any task; "),
        (
            WaitGoal(task='verb', labels=frozenset({'open', 'turn'})),
            r"labels=\['open'\] are no labels of task 'verb'; expected some of: rest, turn",
        ),
    ],
)
def test_goal_with_unknown_names_is_refused(goal, expected):
    with pytest.raises(ValueError, match=expected):
        goal.check_names([ACTION, VERB], ['front', 'side'])


def test_goal_with_known_names_is_accepted():
    WaitGoal().check_names([ACTION, VERB], ['front'])
    WaitGoal(labels=frozenset({'open', 'turn'}), camera='front').check_names(
        [ACTION, VERB], ['front']
    )


@pytest.mark.parametrize(
    'fields',
    [
        {'minimum_score': 1.1},
        {'minimum_score': -math.inf},
        {'minimum_order_evidence': math.nan},
        {'minimum_duration_ns': -1},
        {'timeout_ns': -1},
    ],
)
def test_goal_with_invalid_values_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields)).removesuffix('_ns')):
        WaitGoal(**fields)


@given(
    st.lists(st.tuples(st.sampled_from(ACTION.labels), st.floats(0.34, 1.0)), max_size=40),
    st.integers(0, 10),
    st.floats(0, 1),
    st.integers(0, 5),
)
def test_wait_ends_with_the_first_event_that_meets_the_goal(course, joins, minimum_score, periods):
    goal = WaitGoal(
        task='action', minimum_score=minimum_score, minimum_duration_ns=periods * PERIOD
    )
    stream, wait, before = Stream(), None, []
    for index, (label, score) in enumerate(course):
        if index == joins:
            before = stream.detector.open_events('front')
            wait = ActionWait(goal, before)
        found = stream.play(label, score, wait=wait)
        expected = [
            event
            for event in stream.detector.open_events('front')
            if event.task == 'action'
            and event.start_ns not in [each.start_ns for each in before if each.task == 'action']
            and event.score >= minimum_score
            and ZERO + stream.number * PERIOD - event.start_ns >= periods * PERIOD
        ]
        assert (found is not None) == (wait is not None and bool(expected))
        if found:
            assert found[1] == expected[0]
            return


@pytest.mark.parametrize(
    ('goal', 'limits', 'expected'),
    [
        (
            WaitGoal(task='verb'),
            StartLimits(active_tasks=frozenset({'action'})),
            "task='verb' is not active; the parameter active_tasks holds: action",
        ),
        (
            WaitGoal(labels=frozenset({'turn'})),
            StartLimits(active_tasks=frozenset({'action'})),
            "task='verb' is not active; the parameter active_tasks holds: action",
        ),
        (
            WaitGoal(camera='side'),
            StartLimits(active_cameras=frozenset({'front'})),
            "camera='side' is not active; the parameter active_cameras holds: front",
        ),
        (
            WaitGoal(labels=frozenset({'idle'})),
            StartLimits(ignored_labels=frozenset({'idle', 'none'})),
            "labels=['idle'] never start an event; the parameter ignored_labels holds: idle, none",
        ),
        (
            WaitGoal(minimum_order_evidence=0.5),
            StartLimits(order_evidence=False),
            'minimum_order_evidence=0.5, but the node computes no order evidence; set the '
            'parameter order_evidence to true',
        ),
    ],
)
def test_goal_that_no_event_can_meet_names_the_parameter(goal, limits, expected):
    with pytest.raises(ValueError, match=f'^{re.escape(expected)}$'):
        goal.check_can_start([ACTION, VERB], limits)
    goal.check_can_start([ACTION, VERB], StartLimits())


def test_goal_with_one_label_that_can_start_is_accepted():
    limits = StartLimits(
        active_tasks=frozenset({'action'}), ignored_labels=frozenset({'idle', 'rest'})
    )
    for labels in ((), ('idle', 'open'), ('open', 'turn')):
        WaitGoal(labels=frozenset(labels)).check_can_start([ACTION, VERB], limits)
