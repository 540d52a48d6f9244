"""Action events to labelled stretches of time: each START with its END."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from step_ros.data.bag_reader import END, START, BagEvent
from step_ros.data.reading import ProblemKind

# Kind of problem, number of the event from 1, field, value, and what was expected.
Complain = Callable[[ProblemKind, int, str, object, str], None]


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A stretch of time with its labels.

    Attributes:
        row: Number of the event that began it, from 1.
        frame_id: Coordinate frame of the camera; empty for every camera.
        start_ns: Its beginning, as a stamp in nanoseconds.
        end_ns: Its end.
        labels: Label of each task that has one.
    """

    row: int
    frame_id: str
    start_ns: int
    end_ns: int
    labels: dict[str, str]


def pair_events(events: Iterable[BagEvent], complain: Complain) -> list[Annotation]:
    """Pair START and END for each camera, task and label, in the order of the events.

    What begins and ends at the same time is one annotation with the labels of several tasks. Odd
    events are complained about and left out.

    Args:
        events: The events of a bag, in the order of recording.
        complain: Takes what is wrong.

    Returns:
        The annotations in the order of their ends.
    """
    begun: dict[tuple[str, str, str, str], tuple[int, BagEvent]] = {}
    found: dict[tuple[str, int, int], Annotation] = {}
    for row, event in enumerate(events, start=1):
        if not _sound(row, event, complain):
            continue
        key = (event.camera, event.frame_id, event.task, event.label)
        if event.type == START:
            if key in begun:
                complain(
                    'bad span', begun[key][0], 'type', 'START', 'an END before the next START'
                )
            begun[key] = (row, event)
        elif key not in begun:
            complain(
                'bad span', row, 'type', f'END of {event.task} {event.label!r}', 'a START first'
            )
        else:
            _close(found, *begun.pop(key), row, event, complain)
    for row, event in begun.values():
        value = f'START of {event.task} {event.label!r}'
        complain('bad span', row, 'type', value, 'an END before the bag ends')
    return list(found.values())


def _sound(row: int, event: BagEvent, complain: Complain) -> bool:
    for field, value in (('task', event.task), ('label', event.label)):
        if not value or value != value.strip():
            complain('bad value', row, field, value, 'a word, without blanks around it')
            return False
    if event.type not in (START, END):
        complain('bad value', row, 'type', event.type, f'START ({START}) or END ({END})')
        return False
    # Zero is how ROS says that a stamp was not set.
    if event.type == START and event.start_ns not in (0, event.stamp_ns):
        expected = f"the header's stamp, {event.stamp_ns} ns, or 0"
        complain('bad value', row, 'start_stamp', event.start_ns, expected)
        return False
    return True


def _close(
    found: dict[tuple[str, int, int], Annotation],
    started: int,
    start: BagEvent,
    row: int,
    end: BagEvent,
    complain: Complain,
) -> None:
    if end.start_ns not in (0, start.stamp_ns):
        expected = (
            f'{start.stamp_ns} ns, when START of {end.task} {end.label!r} says it began, or 0'
        )
        complain('bad value', row, 'start_stamp', end.start_ns, expected)
        return
    if end.stamp_ns <= start.stamp_ns:
        complain('bad span', row, 'stamp', end.stamp_ns, f'after its START at {start.stamp_ns} ns')
        return
    annotation = found.setdefault(
        (end.frame_id, start.stamp_ns, end.stamp_ns),
        Annotation(
            row=started,
            frame_id=end.frame_id,
            start_ns=start.stamp_ns,
            end_ns=end.stamp_ns,
            labels={},
        ),
    )
    other = annotation.labels.setdefault(end.task, end.label)
    if other != end.label:
        complain('duplicate', row, end.task, end.label, f'one label at a time; {other!r} is kept')
