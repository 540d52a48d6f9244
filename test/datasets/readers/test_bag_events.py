# SPDX-License-Identifier: Apache-2.0
"""Pair START and END events to annotations."""

import pytest

from step_ros.datasets.readers.bag_events import pair_events
from step_ros.io.bags.reader import END, START, BagEvent


def event(kind, at, label='open', *, task='verb', started=0, **fields):
    return BagEvent(type=kind, stamp_ns=at, start_ns=started, task=task, label=label, **fields)


def paired(*events):
    problems = []
    found = pair_events(events, lambda *problem: problems.append(problem))
    return [(a.start_ns, a.end_ns, a.labels) for a in found], [p[:3] for p in problems]


def test_events_are_paired_by_task_and_camera():
    found, problems = paired(
        event(START, 10, started=10),
        event(START, 10, 'cup', task='object'),
        event(START, 12, camera='other'),
        event(END, 20, started=10),
        # The next verb starts before the object of the first ends.
        event(START, 20, 'close', started=20),
        event(END, 20, 'cup', task='object', started=10),
        event(END, 30, camera='other'),
        event(END, 30, 'close'),
    )
    assert problems == []
    assert found == [
        (10, 20, {'verb': 'open', 'object': 'cup'}),
        (12, 30, {'verb': 'open'}),
        (20, 30, {'verb': 'close'}),
    ]


def test_end_without_start_counts_from_its_start_stamp():
    found, problems = paired(
        event(END, 20, started=4),
        event(END, 20, 'cup', task='object', started=4),
        event(START, 20, 'close', started=20),
        event(END, 30, 'close', started=20),
    )
    assert problems == []
    assert found == [(4, 20, {'verb': 'open', 'object': 'cup'}), (20, 30, {'verb': 'close'})]


@pytest.mark.parametrize(
    ('events', 'left', 'problem'),
    [
        ([event(END, 5)], [], ('bad span', 1, 'type')),
        ([event(END, 5, started=5)], [], ('bad span', 1, 'stamp')),
        (
            [event(END, 5, started=4), event(END, 9, started=8)],
            [(4, 5)],
            ('bad span', 2, 'type'),
        ),
        ([event(START, 5)], [], ('bad span', 1, 'type')),
        ([event(START, 5), event(END, 7, 'close')], [], ('bad span', 2, 'type')),
        ([event(START, 1), event(START, 3), event(END, 5)], [(3, 5)], ('bad span', 1, 'type')),
        ([event(START, 5), event(END, 5)], [], ('bad span', 2, 'stamp')),
        ([event(START, 5), event(END, 4)], [], ('bad span', 2, 'stamp')),
        ([event(START, 5), event(END, 9, started=6)], [], ('bad value', 2, 'start_stamp')),
        ([event(START, 5, started=4)], [], ('bad value', 1, 'start_stamp')),
        ([event(0, 5)], [], ('bad value', 1, 'type')),
        ([event(START, 5, '')], [], ('bad value', 1, 'label')),
        ([event(START, 5, ' a')], [], ('bad value', 1, 'label')),
        ([event(START, 5, task='')], [], ('bad value', 1, 'task')),
        (
            [event(START, 1), event(START, 1, 'shut'), event(END, 2), event(END, 2, 'shut')],
            [(1, 2)],
            ('duplicate', 4, 'verb'),
        ),
    ],
)
def test_unusable_events_are_problems(events, left, problem):
    found, problems = paired(*events)
    assert [(start, end) for start, end, _ in found] == left
    assert problem in problems
