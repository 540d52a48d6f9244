# SPDX-License-Identifier: Apache-2.0
"""Pair the action events of a bag: each START with its END gives a labelled time span."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from step_ros.datasets.reader import ProblemKind
from step_ros.io.bags.reader import END, START, BagEvent

# Kind of problem, number of the event from 1, field, value, and the expected value.
ReportEvent = Callable[[ProblemKind, int, str, object, str], None]


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A time span with its labels.

    Attributes:
        row: Number of its START event, from 1; of its END if the START was not recorded.
        frame_id: Coordinate frame of the camera; empty for every camera.
        start_ns: Stamp of its start, in nanoseconds.
        end_ns: Stamp of its end, in nanoseconds.
        labels: Label of each task that has one.
        start_recorded: Whether the recording holds its START; if not, its END gives the start.
    """

    row: int
    frame_id: str
    start_ns: int
    end_ns: int
    labels: dict[str, str]
    start_recorded: bool = True


def pair_events(events: Iterable[BagEvent], report: ReportEvent) -> list[Annotation]:
    """Pair START and END events for each camera, task and label.

    Labels of several tasks with the same start and end become one annotation. An END whose START
    lies before the recording counts from its `start_stamp`. Events that cannot be used are
    reported and left out.

    Args:
        events: The events of a bag, in the order of recording.
        report: Called for each event that cannot be used.

    Returns:
        The annotations in the order of their ends.
    """
    open_starts: dict[tuple[str, str, str, str], tuple[int, BagEvent]] = {}
    found: dict[tuple[str, int, int], Annotation] = {}
    started: set[tuple[str, str, str, str]] = set()
    for row, event in enumerate(events, start=1):
        if not _is_valid(row, event, report):
            continue
        key = (event.camera, event.frame_id, event.task, event.label)
        if event.type == START:
            if key in open_starts:
                report(
                    'bad span',
                    open_starts[key][0],
                    'type',
                    'START',
                    'an END before the next START',
                )
            open_starts[key] = (row, event)
            started.add(key)
        elif key not in open_starts and key not in started and event.start_ns:
            # A recorder that began late received no START. A second END would be a mistake.
            start = replace(event, type=START, stamp_ns=event.start_ns)
            _add_annotation(found, row, start, row, event, report, start_recorded=False)
            started.add(key)
        elif key not in open_starts:
            value = f'END of {event.task} {event.label!r}'
            report('bad span', row, 'type', value, 'a START first')
        else:
            _add_annotation(found, *open_starts.pop(key), row, event, report)
    for row, event in open_starts.values():
        value = f'START of {event.task} {event.label!r}'
        report('bad span', row, 'type', value, 'an END before the bag ends')
    return list(found.values())


def _is_valid(row: int, event: BagEvent, report: ReportEvent) -> bool:
    for field, value in (('task', event.task), ('label', event.label)):
        if not value or value != value.strip():
            report('bad value', row, field, value, 'a word without surrounding blanks')
            return False
    if event.type not in (START, END):
        report('bad value', row, 'type', event.type, f'START ({START}) or END ({END})')
        return False
    # In ROS, a stamp of zero means that the stamp is not set.
    if event.type == START and event.start_ns not in (0, event.stamp_ns):
        expected = f"the header's stamp, {event.stamp_ns} ns, or 0"
        report('bad value', row, 'start_stamp', event.start_ns, expected)
        return False
    return True


def _add_annotation(
    found: dict[tuple[str, int, int], Annotation],
    start_row: int,
    start: BagEvent,
    row: int,
    end: BagEvent,
    report: ReportEvent,
    *,
    start_recorded: bool = True,
) -> None:
    if end.start_ns not in (0, start.stamp_ns):
        expected = f'{start.stamp_ns} ns, the stamp of START of {end.task} {end.label!r}, or 0'
        report('bad value', row, 'start_stamp', end.start_ns, expected)
        return
    if end.stamp_ns <= start.stamp_ns:
        expected = f'a stamp after its START at {start.stamp_ns} ns'
        report('bad span', row, 'stamp', end.stamp_ns, expected)
        return
    annotation = found.setdefault(
        (end.frame_id, start.stamp_ns, end.stamp_ns),
        Annotation(
            row=start_row,
            frame_id=end.frame_id,
            start_ns=start.stamp_ns,
            end_ns=end.stamp_ns,
            labels={},
            start_recorded=start_recorded,
        ),
    )
    kept = annotation.labels.setdefault(end.task, end.label)
    if kept != end.label:
        report('duplicate', row, end.task, end.label, f'one label at a time; {kept!r} is kept')
