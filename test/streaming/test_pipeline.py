"""Answers: fusion, smoothing and events together, with settings changed on the way."""

from dataclasses import replace

import numpy as np
import pytest

from step_ros.model.bundle_schema import TaskSpec
from step_ros.resources import load_defaults
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis
from step_ros.streaming.pipeline import Postprocessor
from step_ros.streaming.postprocessing.events import EventType
from step_ros.streaming.postprocessing.fusion import FUSED, CameraFusion
from step_ros.streaming.settings import StreamSettings

MS = 1_000_000
PERIOD = 200 * MS
SPECS = (
    TaskSpec(name='action', labels=('idle', 'open', 'close')),
    TaskSpec(name='verb', labels=('idle', 'turn', 'rest')),
)
SETTINGS = replace(
    StreamSettings.from_values(load_defaults('perception.yaml')),
    minimum_duration=0.4,
    minimum_gap=0.0,
)


def said(number, score, camera='front'):
    scores_k = np.array([(1 - score) / 2, score, (1 - score) / 2])
    return Hypothesis(
        camera=camera,
        frame_id='',
        stamp_ns=10**9 + number * PERIOD,
        window_start_ns=10**9 + (number - 7) * PERIOD,
        received_ns=0,
        tasks=tuple(
            TaskHypothesis(spec=spec, scores_k=scores_k, order_evidence=0.5) for spec in SPECS
        ),
    )


def told(answers, *hypotheses):
    return [
        answer for hypothesis in hypotheses for answer in answers.process_hypothesis(hypothesis)
    ]


def test_each_camera_is_answered_by_itself():
    answers = Postprocessor(SETTINGS, max_gap_ns=500 * MS)
    course = [said(n, 0.9, camera) for n in range(3) for camera in ('front', 'side')]
    given = told(answers, *course)
    assert [answer.hypothesis.camera for answer in given] == ['front', 'side'] * 3
    assert [len(answer.events) for answer in given] == [0, 0, 0, 0, 2, 2]
    assert given[-1].open_events == given[-1].events
    assert {event.camera for event in answers.open_events()} == {'front', 'side'}
    assert [event.type for event in answers.close('side')] == [EventType.END] * 2
    assert {event.camera for event in answers.open_events()} == {'front'}


def test_fused_cameras_are_answered_as_one():
    fusion = CameraFusion(['front', 'side'], tolerance_ns=PERIOD // 2, stale_ns=5 * PERIOD)
    answers = Postprocessor(SETTINGS, max_gap_ns=500 * MS, fusion=fusion)
    course = [
        said(n, score, camera) for n in range(4) for camera, score in (('front', 1), ('side', 0.5))
    ]
    given = told(answers, *course)
    assert [answer.hypothesis.camera for answer in given] == [FUSED] * 4
    assert given[0].hypothesis.tasks[0].score_of('open') == pytest.approx(0.75)
    assert {event.camera for answer in given for event in answer.events} == {FUSED}


def test_settings_hold_from_the_next_hypothesis_on():
    answers = Postprocessor(replace(SETTINGS, on_threshold=0.95), max_gap_ns=500 * MS)
    assert not any(answer.events for answer in told(answers, *(said(n, 0.9) for n in range(9))))
    answers.change(replace(SETTINGS, on_threshold=0.8, smoothing=1.0))
    given = told(answers, *(said(n, 0.9) for n in range(9, 12)))
    assert [len(answer.events) for answer in given] == [0, 0, 2]
    [lower] = answers.process_hypothesis(said(12, 0.5))
    # exp(-0.2) of the way is still to go.
    assert lower.hypothesis.tasks[0].score_of('open') == pytest.approx(0.5 + 0.4 * np.exp(-0.2))


def test_a_task_that_is_not_active_any_more_is_not_told_and_what_it_had_open_ends():
    answers = Postprocessor(SETTINGS, max_gap_ns=500 * MS)
    told(answers, *(said(n, 0.9) for n in range(4)))
    answers.change(SETTINGS, active_tasks=frozenset({'verb'}))
    [answer] = answers.process_hypothesis(said(4, 0.9))
    assert [task.spec.name for task in answer.hypothesis.tasks] == ['verb']
    assert [(event.task, event.type) for event in answer.events] == [('action', EventType.END)]
    assert [event.task for event in answer.open_events] == ['verb']
