# SPDX-License-Identifier: Apache-2.0
"""The timeline keeps the visible events, and no others."""

from step_ros.streaming.postprocessing.events import Event, EventType
from step_ros.visualization.panel import EventTimeline, Span

S = 1_000_000_000


def event(kind, start, stamp=None, *, task='action', label='open'):
    stamp = start if stamp is None else stamp
    return Event(
        camera='front',
        frame_id='',
        task=task,
        label=label,
        type=kind,
        stamp_ns=stamp * S,
        start_ns=start * S,
        score=0.9,
        order_evidence=0.5,
    )


def test_start_opens_a_span_and_its_end_closes_it():
    timeline = EventTimeline(20 * S)
    timeline.add(event(EventType.START, 5))
    assert timeline.spans('action', 6 * S) == (Span(label='open', start_ns=5 * S),)
    timeline.add(event(EventType.END, 5, 7))
    timeline.add(event(EventType.START, 8, label='close'))
    assert timeline.spans('action', 9 * S) == (
        Span(label='open', start_ns=5 * S, end_ns=7 * S),
        Span(label='close', start_ns=8 * S),
    )
    assert timeline.spans('verb', 9 * S) == ()


def test_ended_spans_expire_and_open_spans_stay():
    timeline = EventTimeline(20 * S)
    timeline.add(event(EventType.START, 5))
    timeline.add(event(EventType.START, 5, task='verb'))
    timeline.add(event(EventType.END, 5, 7))
    assert len(timeline.spans('action', 27 * S)) == 1
    assert timeline.spans('action', 28 * S) == ()
    assert len(timeline.spans('verb', 1000 * S)) == 1


def test_end_without_its_start_is_ignored():
    timeline = EventTimeline(20 * S)
    timeline.add(event(EventType.END, 5, 7))
    timeline.add(event(EventType.START, 8))
    timeline.add(event(EventType.END, 5, 9))
    assert timeline.spans('action', 10 * S) == (Span(label='open', start_ns=8 * S),)


def test_memory_is_bounded():
    timeline = EventTimeline(10**9 * S)
    for second in range(5000):
        timeline.add(event(EventType.START, second))
        timeline.add(event(EventType.END, second, second))
    spans = timeline.spans('action', 5000 * S)
    assert len(spans) < 100
    assert spans[-1].start_ns == 4999 * S
