# SPDX-License-Identifier: Apache-2.0
"""Compare events with the truth: cases computed by hand."""

import pytest

from step_ros.evaluation.events import EventCounts, TimedEvent, count_events
from step_ros.evaluation.ground_truth import TruthSegment
from step_ros.streaming.postprocessing.events import Event, EventType

SECOND = 10**9


def published(label, start_s, published_s, kind=EventType.START):
    event = Event(
        camera='/front',
        frame_id='',
        task='action',
        label=label,
        type=kind,
        stamp_ns=round(start_s * SECOND),
        start_ns=round(start_s * SECOND),
        score=0.9,
        order_evidence=0.5,
    )
    return TimedEvent(event=event, published_ns=round(published_s * SECOND))


def segment(label, start_s, end_s):
    end_ns = None if end_s is None else round(end_s * SECOND)
    return TruthSegment(label=label, start_ns=round(start_s * SECOND), end_ns=end_ns)


TRUTH = [segment('open', 1, 3), segment('idle', 3, 5), segment('close', 6, None)]


def count(*events, first_s=0, last_s=10):
    return count_events(
        events,
        TRUTH,
        first_ns=first_s * SECOND,
        last_ns=last_s * SECOND,
        ignored={'idle'},
    )


def test_delay_runs_from_action_start_to_publication():
    counts = count(
        published('open', 1.5, 2),
        published('open', 1.5, 2, EventType.END),
        published('close', 6, 9),
    )
    assert (counts.actions, counts.delays_s) == (2, (1.0, 3.0))
    assert (counts.false, counts.repeated, counts.unjudged) == (0, 0, 0)
    assert counts.labelled_ns == 8 * SECOND


def test_late_event_is_correct_if_it_started_in_the_action():
    assert count(published('open', 2.9, 3.5)).delays_s == (2.5,)
    assert count(published('open', 3.0, 3.5)).false == 1


def test_early_event_is_correct_if_published_in_the_action():
    assert count(published('close', 4, 4.5)).false == 1
    assert count(published('close', 4, 6)).delays_s == (0.0,)


def test_second_event_is_repeated_and_unlabelled_is_unjudged():
    counts = count(
        published('open', 1, 2), published('open', 2.2, 2.6), published('close', 5.1, 5.9)
    )
    assert (counts.delays_s, counts.repeated, counts.unjudged) == ((1.0,), 1, 1)


def test_delay_counts_from_recording_start_if_action_is_older():
    assert count(published('open', 2.5, 3), first_s=2).delays_s == (1.0,)


def test_false_events_are_counted_per_labelled_minute():
    counts = count(published('close', 1, 2)) + count()
    assert counts.false_per_minute == pytest.approx(60 / 16)
    assert EventCounts().false_per_minute is None
