# SPDX-License-Identifier: Apache-2.0
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


def make_hypothesis(number, score, camera='front'):
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


def process(postprocessor, *hypotheses):
    return [
        processed
        for hypothesis in hypotheses
        for processed in postprocessor.process_hypothesis(hypothesis)
    ]


def test_each_camera_has_its_own_events():
    postprocessor = Postprocessor(SETTINGS, max_gap_ns=500 * MS)
    course = [make_hypothesis(n, 0.9, camera) for n in range(3) for camera in ('front', 'side')]
    given = process(postprocessor, *course)
    assert [processed.hypothesis.camera for processed in given] == ['front', 'side'] * 3
    assert [len(processed.events) for processed in given] == [0, 0, 0, 0, 2, 2]
    assert given[-1].open_events == given[-1].events
    assert {event.camera for event in postprocessor.open_events()} == {'front', 'side'}
    assert [event.type for event in postprocessor.close('side')] == [EventType.END] * 2
    assert {event.camera for event in postprocessor.open_events()} == {'front'}


def test_fused_cameras_give_one_stream_of_events():
    fusion = CameraFusion(['front', 'side'], tolerance_ns=PERIOD // 2, stale_ns=5 * PERIOD)
    postprocessor = Postprocessor(SETTINGS, max_gap_ns=500 * MS, fusion=fusion)
    course = [
        make_hypothesis(n, score, camera)
        for n in range(4)
        for camera, score in (('front', 1), ('side', 0.5))
    ]
    given = process(postprocessor, *course)
    assert [processed.hypothesis.camera for processed in given] == [FUSED] * 4
    assert given[0].hypothesis.tasks[0].score_of('open') == pytest.approx(0.75)
    assert {event.camera for processed in given for event in processed.events} == {FUSED}


def test_new_settings_apply_from_the_next_hypothesis():
    postprocessor = Postprocessor(replace(SETTINGS, on_threshold=0.95), max_gap_ns=500 * MS)
    assert not any(
        processed.events
        for processed in process(postprocessor, *(make_hypothesis(n, 0.9) for n in range(9)))
    )
    postprocessor.change(replace(SETTINGS, on_threshold=0.8, smoothing=1.0))
    given = process(postprocessor, *(make_hypothesis(n, 0.9) for n in range(9, 12)))
    assert [len(processed.events) for processed in given] == [0, 0, 2]
    [lower] = postprocessor.process_hypothesis(make_hypothesis(12, 0.5))
    # After 0.2 s with a time constant of 1 s, exp(-0.2) of the step remains.
    assert lower.hypothesis.tasks[0].score_of('open') == pytest.approx(0.5 + 0.4 * np.exp(-0.2))


def test_inactive_task_is_not_published_and_its_events_end():
    postprocessor = Postprocessor(SETTINGS, max_gap_ns=500 * MS)
    process(postprocessor, *(make_hypothesis(n, 0.9) for n in range(4)))
    postprocessor.change(SETTINGS, active_tasks=frozenset({'verb'}))
    [processed] = postprocessor.process_hypothesis(make_hypothesis(4, 0.9))
    assert [task.spec.name for task in processed.hypothesis.tasks] == ['verb']
    assert [(event.task, event.type) for event in processed.events] == [('action', EventType.END)]
    assert [event.task for event in processed.open_events] == ['verb']
