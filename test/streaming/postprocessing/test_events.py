# SPDX-License-Identifier: Apache-2.0
"""Events: hysteresis by cases, and laws for any scores, stamps and changes of settings."""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis
from step_ros.streaming.postprocessing.events import EventDetector, EventSettings, EventType

MS = 1_000_000
PERIOD = 100 * MS
ZERO = 1_700_000_000 * 1000 * MS
LABELS = ('idle', 'open', 'close')
SPECS = tuple(
    TaskSpec(name=name, labels=LABELS, counterparts={'open': 'close', 'close': 'open'})
    for name in ('action', 'verb')
)
SETTINGS = EventSettings(
    on_threshold=0.6,
    off_threshold=0.4,
    minimum_duration_ns=200 * MS,
    minimum_gap_ns=200 * MS,
    ignored_labels=frozenset({'idle'}),
)


def scores_of(label, score):
    """Give a label a score; the other labels share the rest, so above 1/3 it is the best."""
    return np.array([score if name == label else (1 - score) / 2 for name in LABELS])


def make(stamp_ns, *scores, camera='front', evidence=0.5, frames=4):
    return Hypothesis(
        camera=camera,
        frame_id=f'{camera}_optical',
        stamp_ns=stamp_ns,
        window_start_ns=stamp_ns - (frames - 1) * PERIOD,
        received_ns=0,
        tasks=tuple(
            TaskHypothesis(spec=spec, scores_k=scores_k, order_evidence=evidence)
            for spec, scores_k in zip(SPECS, scores, strict=False)
        ),
    )


def run(scored_labels, settings=SETTINGS):
    """Detect events in one task's best `(label, score)`, a period apart; None skips a period."""
    detector = EventDetector(settings, max_gap_ns=250 * MS)
    events = []
    for number, scored_label in enumerate(scored_labels):
        if scored_label is not None:
            events += detector.add_hypothesis(
                make(ZERO + number * PERIOD, scores_of(*scored_label))
            )
    return events, detector


def brief(events):
    """Return type, label, stamp in periods and score of each event."""
    return [
        (event.type.name, event.label, (event.stamp_ns - ZERO) / PERIOD, event.score)
        for event in events
    ]


# ---- hysteresis


def test_label_starts_after_holding_and_ends_after_a_gap():
    scored_labels = (
        2 * [('idle', 0.9)] + 3 * [('open', 0.7)] + [('open', 0.5)] + 3 * [('idle', 0.9)]
    )
    events, _ = run(scored_labels)
    assert brief(events) == [
        ('START', 'open', 2, pytest.approx(0.7)),
        ('END', 'open', 5, pytest.approx(0.65)),
    ]
    assert events[1].start_ns == events[0].start_ns == events[0].stamp_ns
    assert (events[0].camera, events[0].frame_id, events[0].task) == (
        'front',
        'front_optical',
        'action',
    )


def test_short_break_is_bridged_only_after_the_start():
    events, detector = run(
        [('open', 0.7), ('open', 0.7), ('open', 0.5)]  # too short
        + 3 * [('open', 0.7)]
        + [('idle', 0.9)]  # bridged
        + 2 * [('open', 0.7)]
    )
    assert brief(events) == [('START', 'open', 3, pytest.approx(0.7))]
    assert brief(detector.close()) == [('END', 'open', 8, pytest.approx(0.7))]
    assert detector.close() == []


def test_starting_label_ends_another_at_once():
    settings = replace(SETTINGS, minimum_gap_ns=10_000 * MS)
    events, _ = run(3 * [('open', 0.7)] + 3 * [('close', 0.8)], settings)
    assert [row[:3] for row in brief(events)] == [
        ('START', 'open', 0),
        ('END', 'open', 2),
        ('START', 'close', 3),
    ]


def test_best_label_below_off_threshold_ends():
    events, _ = run(3 * [('open', 0.7)] + 3 * [('open', 0.39)])
    assert [row[:3] for row in brief(events)] == [('START', 'open', 0), ('END', 'open', 2)]


def test_ignored_labels_never_start():
    assert run(9 * [('idle', 1.0)])[0] == []
    events, _ = run(9 * [('idle', 1.0)], replace(SETTINGS, ignored_labels=frozenset()))
    assert [row[:2] for row in brief(events)] == [('START', 'idle')]


def test_without_minima_each_change_is_an_event():
    settings = replace(SETTINGS, minimum_duration_ns=0, minimum_gap_ns=0)
    events, _ = run([('open', 0.7), ('close', 0.7), ('idle', 0.7)], settings)
    assert [row[:3] for row in brief(events)] == [
        ('START', 'open', 0),
        ('END', 'open', 0),
        ('START', 'close', 1),
        ('END', 'close', 1),
    ]


@pytest.mark.parametrize(('evidence', 'count'), [(0.3, 1), (0.29, 0), (math.nan, 0)])
def test_order_evidence_applies_to_labels_with_a_counterpart(evidence, count):
    settings = replace(SETTINGS, minimum_order_evidence=0.3, ignored_labels=frozenset())
    for label, expected in (('open', count), ('idle', 1)):
        detector = EventDetector(settings, max_gap_ns=250 * MS)
        events = [
            event
            for number in range(4)
            for event in detector.add_hypothesis(
                make(ZERO + number * PERIOD, scores_of(label, 0.9), evidence=evidence)
            )
        ]
        assert len(events) == expected


# ---- jumps, restarts and missing tasks


@pytest.mark.parametrize('stamp_ns', [ZERO - 5_000 * MS, ZERO + 200 * MS - 1])
def test_jump_back_ends_the_open_label(stamp_ns):
    _, detector = run(3 * [('open', 0.7)])
    assert brief(detector.add_hypothesis(make(stamp_ns, scores_of('open', 0.9)))) == [
        ('END', 'open', 2, pytest.approx(0.7))
    ]


@pytest.mark.parametrize('frames', [1, 4])
def test_window_restart_ends_the_open_label(frames):
    _, detector = run(3 * [('open', 0.7)])
    stamp_ns = ZERO + 2 * PERIOD + 251 * MS + (frames - 1) * PERIOD
    events = detector.add_hypothesis(make(stamp_ns, scores_of('open', 0.9), frames=frames))
    assert [row[:3] for row in brief(events)] == [('END', 'open', 2)]


@pytest.mark.parametrize('frames', [1, 4])
def test_lost_frame_does_not_break_a_label(frames):
    detector = EventDetector(SETTINGS, max_gap_ns=250 * MS)
    events = [
        event
        for number in (0, 2, 4)
        for event in detector.add_hypothesis(
            make(ZERO + number * PERIOD, scores_of('open', 0.7), frames=frames)
        )
    ]
    assert [row[:3] for row in brief(events)] == [('START', 'open', 0)]


def test_open_label_of_a_missing_task_ends():
    detector = EventDetector(SETTINGS, max_gap_ns=250 * MS)
    both = (scores_of('open', 0.7), scores_of('close', 0.7))
    for number in range(3):
        events = detector.add_hypothesis(make(ZERO + number * PERIOD, *both))
    assert [(event.type, event.task) for event in events] == [
        (EventType.START, 'action'),
        (EventType.START, 'verb'),
    ]
    events = detector.add_hypothesis(make(ZERO + 3 * PERIOD, both[0]))
    assert [(event.type, event.task) for event in events] == [(EventType.END, 'verb')]


def test_closing_one_camera_leaves_the_others_open():
    detector = EventDetector(SETTINGS, max_gap_ns=250 * MS)
    for number in range(3):
        for camera in ('front', 'side'):
            detector.add_hypothesis(
                make(ZERO + number * PERIOD, scores_of('open', 0.7), camera=camera)
            )
    (event,) = detector.close('front', stamp_ns=ZERO + 7 * PERIOD)
    assert (event.camera, event.stamp_ns) == ('front', ZERO + 7 * PERIOD)
    (event,) = detector.close(stamp_ns=ZERO)
    assert (event.camera, event.stamp_ns) == ('side', ZERO + 2 * PERIOD)
    assert detector.close('nobody') == []


# ---- settings


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'on_threshold': 1.1}, 'on_threshold=1.1'),
        ({'off_threshold': -0.1}, 'off_threshold=-0.1'),
        ({'off_threshold': 0.7}, 'off_threshold=0.7 is above on_threshold=0.6'),
        ({'on_threshold': math.nan}, 'on_threshold=nan'),
        ({'minimum_duration_ns': -1}, 'minimum_duration'),
        ({'minimum_gap_ns': -1}, 'minimum_gap'),
        ({'minimum_order_evidence': 2.0}, 'minimum_order_evidence=2.0'),
    ],
)
def test_invalid_event_settings_are_refused(change, named):
    with pytest.raises(ValueError, match=named):
        replace(SETTINGS, **change)


def test_new_settings_apply_to_the_open_label():
    _, detector = run(3 * [('open', 0.7)])
    detector.settings = replace(SETTINGS, ignored_labels=frozenset({'open'}), minimum_gap_ns=0)
    events = detector.add_hypothesis(make(ZERO + 3 * PERIOD, scores_of('open', 0.9)))
    assert [row[:3] for row in brief(events)] == [('END', 'open', 2)]


# ---- laws

shares = st.floats(0, 1)
settings_of_any_kind = st.builds(
    lambda one, other, **rest: EventSettings(
        on_threshold=max(one, other), off_threshold=min(one, other), **rest
    ),
    one=shares,
    other=shares,
    minimum_duration_ns=st.integers(0, 6).map(lambda count: count * PERIOD // 2),
    minimum_gap_ns=st.integers(0, 6).map(lambda count: count * PERIOD // 2),
    minimum_order_evidence=st.sampled_from([0.0, 0.2]),
    ignored_labels=st.sampled_from([frozenset(), frozenset({'idle'}), frozenset({'open'})]),
)
scored_labels_of_a_task = st.tuples(st.sampled_from(LABELS), shares)
steps = st.tuples(
    st.sampled_from(['front', 'side']),
    # Mostly a period on; now and then a gap, a repeated stamp or a jump back.
    st.sampled_from(12 * [1] + [2, 7, 40, 0, -1, -9]).map(lambda count: count * PERIOD),
    st.lists(scored_labels_of_a_task, min_size=1, max_size=2),
    st.sampled_from([0.1, 0.5, math.nan]),
    st.one_of(st.none(), st.none(), st.none(), settings_of_any_kind),
    st.integers(0, 30).map(lambda chance: chance == 0),
)


@given(settings_of_any_kind, st.lists(steps, max_size=60), st.sampled_from([1, 2, 4]))
def test_start_and_end_alternate_for_any_input(settings, course, frames):
    detector = EventDetector(settings, max_gap_ns=250 * MS)
    stamps = dict.fromkeys(('front', 'side'), ZERO)
    tracks = defaultdict(list)
    seen = defaultdict(set)
    for camera, step_ns, scored_labels, evidence, change, deactivated in course:
        if change is not None:
            detector.settings = change
        stamps[camera] += step_ns
        seen[camera].add(stamps[camera])
        scores = [scores_of(*scored_label) for scored_label in scored_labels]
        events = detector.add_hypothesis(
            make(stamps[camera], *scores, camera=camera, evidence=evidence, frames=frames)
        )
        for event in [*events, *(detector.close(camera) if deactivated else [])]:
            tracks[event.camera, event.task].append(event)
            if event.type is EventType.START:
                assert event.label not in detector.settings.ignored_labels
        begun = {event.task: event for event in detector.open_events(camera)}
        for (name, task), events in tracks.items():
            if name == camera:
                assert (task in begun) == (events[-1].type is EventType.START)
        for task, event in begun.items():
            assert event.label == tracks[camera, task][-1].label
            assert event.stamp_ns == event.start_ns == tracks[camera, task][-1].stamp_ns
    for event in detector.close():
        tracks[event.camera, event.task].append(event)
    for (camera, _), events in tracks.items():
        assert len(events) % 2 == 0
        assert all(event.stamp_ns in seen[camera] for event in events)
        assert all(0 <= event.score <= 1 for event in events)
        assert all(
            math.isnan(event.order_evidence) or 0 <= event.order_evidence <= 1 for event in events
        )
        for start, end in zip(events[::2], events[1::2], strict=True):
            assert (start.type, end.type) == (EventType.START, EventType.END)
            assert start.label == end.label
            assert start.stamp_ns == start.start_ns == end.start_ns <= end.stamp_ns


@given(settings_of_any_kind, st.lists(scored_labels_of_a_task, max_size=60))
def test_events_do_not_overlap_and_keep_the_minima(settings, scored_labels):
    events, detector = run(scored_labels, settings)
    events += detector.close()
    for start, end in zip(events[::2], events[1::2], strict=True):
        assert end.stamp_ns - start.stamp_ns >= settings.minimum_duration_ns
        assert start.score >= settings.on_threshold - 1e-12
        assert end.score >= settings.off_threshold - 1e-12
    for end, following in zip(events[1::2], events[2::2], strict=False):
        assert following.stamp_ns > end.stamp_ns
        if following.label == end.label:
            assert following.stamp_ns - end.stamp_ns > settings.minimum_gap_ns


@given(settings_of_any_kind, st.lists(scored_labels_of_a_task, max_size=60))
def test_tasks_and_cameras_are_independent(settings, scored_labels):
    alone, _ = run(scored_labels, settings)
    detector = EventDetector(settings, max_gap_ns=250 * MS)
    among = []
    for number, scored_label in enumerate(scored_labels):
        others = scores_of(*scored_labels[-1 - number])
        stamp_ns = ZERO + number * PERIOD
        among += detector.add_hypothesis(make(stamp_ns, scores_of(*scored_label), others))
        detector.add_hypothesis(make(ZERO - number * PERIOD, others, others, camera='side'))
    assert [event for event in among if event.task == 'action'] == alone
