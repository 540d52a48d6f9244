# SPDX-License-Identifier: Apache-2.0
"""True labels of a bag's cameras, from action events in the bag or from a CSV file."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from step_ros.datasets.reader import Reading
from step_ros.datasets.readers.bag_events import Annotation, pair_events
from step_ros.datasets.readers.csv import COLUMNS, OPTIONAL, seconds_span
from step_ros.evaluation.ground_truth import Truth, TruthSegment
from step_ros.files import expand_home, find_spelled
from step_ros.io.bags.metadata import BagError
from step_ros.io.bags.predictions import refuse_predictions, why_predicted
from step_ros.io.bags.reader import END, START, BagEvent, BagReader
from step_ros.io.errors import DatasetError
from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.grid import NANOSECONDS

# Columns that a file must have. Dataset readers also need `split`; here every row counts.
_NEEDED = tuple(name for name in COLUMNS if name != 'split')
# Stands for the end of the recording while segments are sorted and joined.
_LAST_NS = 2**62


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """Where the true labels of a bag come from.

    Attributes:
        name: A topic of action events, or the path of a CSV file; empty for no labels.
        left_out: Topics of action events that are no truth, each with the sign for it.
    """

    name: str
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """Whether the labels come from a CSV file."""
        name = self.name
        if not name:
            return False
        return not name.startswith('/') or name.endswith('.csv') or Path(name).is_file()

    @property
    def title(self) -> str:
        """The topic or the name of the file, without its folder; empty for no labels."""
        return Path(self.name).name if self.is_file else self.name


def find_labels(bag: BagReader, labels: str) -> LabelSource:
    """Return where the true labels of a bag come from.

    A perception node's own events are never true labels.

    Args:
        bag: The bag.
        labels: A topic of action events or a CSV file, as `read_labels` takes it. Empty for the
            bag's only topic of action events that no perception node published.

    Raises:
        BagError: The topic is missing, a perception node published it, or there are several.
    """
    source = LabelSource(name=labels)
    if source.is_file:
        return source
    if labels:
        refuse_predictions(bag, labels)
        return source
    signs = {topic: why_predicted(bag, topic) for topic in bag.event_topics}
    topics = [topic for topic, sign in signs.items() if not sign]
    if len(topics) > 1:
        raise BagError(
            bag.path,
            f'it has several topics of ActionEvents: {_listed(topics)}; name one with --labels',
        )
    return LabelSource(
        name=topics[0] if topics else '',
        left_out={topic: sign for topic, sign in signs.items() if sign},
    )


def read_labels(
    bag: BagReader, labels: str | LabelSource, topics: Sequence[str]
) -> dict[str, Truth]:
    """Read the true labels of a bag's cameras.

    Args:
        bag: The bag.
        labels: A topic of action events, which begins with a slash; or a CSV file with the
            columns `video,start,end,TASK...` and optionally `view`, as for the dataset reader
            `bag`, where `video` is the bag's path relative to the file. Empty for the bag's only
            topic of action events that no perception node published. Or what `find_labels` found.
        topics: Image topics, one for each camera.

    Returns:
        Truth by topic. Segments of one label that touch are joined. Empty if `labels` is empty
        and the bag has no topic of true labels.

    Raises:
        BagError: There are no labels for this bag, they contradict each other, or a perception
            node published them.
        DatasetError: The CSV file cannot be used.
    """
    source = find_labels(bag, labels) if isinstance(labels, str) else labels
    if not source.name:
        return {}
    if source.is_file:
        truths = _of_table(bag, find_spelled(expand_home(source.name)), topics)
    else:
        truths = _of_events(bag, source.name, topics)
    return {topic: _in_order(bag, topic, truth) for topic, truth in truths.items()}


def cut_outside(truth: Truth, *, first_ns: int, last_ns: int) -> int:
    """Remove the segments outside the time in which a camera was recorded, if others lie inside.

    A latched topic hands a recorder also the events from before the recording.

    Returns:
        Number of removed segments. If no segment lies inside, none is removed: the clocks differ.
    """
    inside = {
        task: [
            segment
            for segment in segments
            if _end(segment) > first_ns and segment.start_ns <= last_ns
        ]
        for task, segments in truth.segments.items()
    }
    if not any(inside.values()):
        return 0
    before = sum(map(len, truth.segments.values()))
    truth.segments.update(inside)
    return before - sum(map(len, inside.values()))


def check_labels(bag: BagReader, truth: Truth, tasks: Iterable[TaskSpec], model_id: str) -> None:
    """Check that a bundle can be judged by these labels.

    Raises:
        BagError: None of the bundle's tasks has labels, or the bundle does not know a label.
    """
    known = {task.name: task.labels for task in tasks}
    labelled = [task for task, segments in truth.segments.items() if segments]
    if not set(known) & set(labelled):
        raise BagError(
            bag.path,
            f'the labels are of the tasks {_listed(labelled)}; expected a task that {model_id} '
            f'predicts: {_listed(known)}',
        )
    for task, labels in known.items():
        for segment in truth.segments.get(task, ()):
            if segment.label not in labels:
                raise BagError(
                    bag.path,
                    f'{task} {segment.label!r}: {model_id} does not know this label; '
                    f'expected one of {_listed(labels)}',
                )


def check_within(bag: Path, topic: str, truth: Truth, *, first_ns: int, last_ns: int) -> None:
    """Check that every segment overlaps the time in which a camera was recorded.

    Raises:
        BagError: A segment lies wholly outside that time.
    """
    for task, segments in truth.segments.items():
        for segment in segments:
            end_ns = _end(segment)
            if end_ns <= first_ns or segment.start_ns > last_ns:
                raise BagError(
                    bag,
                    f'{task} {segment.label!r} is labelled from {_seconds(segment.start_ns)} to '
                    f'{_seconds(end_ns)}, outside the images of {topic}, from '
                    f'{_seconds(first_ns)} to {_seconds(last_ns)}; labels and images need stamps '
                    'of the same clock',
                )


def _of_events(bag: BagReader, name: str, topics: Sequence[str]) -> dict[str, Truth]:
    """Read the labels of each camera from a topic of action events."""
    events = _completed(list(bag.events([name])))
    if not events:
        raise BagError(
            bag.path, f'{name}: the topic has no action event; expected the true labels'
        )

    def refuse(_kind: object, row: int, field: str, value: object, expected: str) -> None:
        raise BagError(bag.path, f'{name}: event {row}: {field} {value!r}: expected {expected}')

    annotations = pair_events(events, refuse)
    frame_ids = {topic: bag.first_frame(topic).frame_id for topic in topics}
    truths = {}
    for topic, frame_id in frame_ids.items():
        truths[topic] = _truth(each for each in annotations if each.frame_id in ('', frame_id))
        if not truths[topic].segments:
            found = sorted({annotation.frame_id for annotation in annotations})
            raise BagError(
                bag.path,
                f'{name}: no event is about {topic}, whose frame_id is {frame_id!r}; the events '
                f'have {_listed(map(repr, found))}; give them the frame_id of the camera, or an '
                'empty one for all cameras',
            )
    return truths


def _completed(events: Sequence[BagEvent]) -> list[BagEvent]:
    """Add the START or END that is missing where a recording cuts an action off."""
    opened: dict[tuple[str, str, str, str], BagEvent] = {}
    complete: list[BagEvent] = []
    for event in events:
        key = (event.camera, event.frame_id, event.task, event.label)
        if event.type == START:
            opened[key] = event
        elif event.type == END and not opened.pop(key, None) and event.start_ns:
            complete.append(replace(event, type=START, stamp_ns=event.start_ns))
        complete.append(event)
    ends = [
        replace(event, type=END, stamp_ns=_LAST_NS, start_ns=event.stamp_ns)
        for event in opened.values()
    ]
    return complete + ends


def _truth(annotations: Iterable[Annotation]) -> Truth:
    truth = Truth()
    for annotation in annotations:
        for task, label in annotation.labels.items():
            truth.segments[task].append(
                TruthSegment(
                    label=label,
                    start_ns=annotation.start_ns,
                    end_ns=None if annotation.end_ns == _LAST_NS else annotation.end_ns,
                )
            )
    return truth


def _of_table(bag: BagReader, path: Path, topics: Sequence[str]) -> dict[str, Truth]:
    """Read the labels of each camera from a CSV file, whose times count from its first image."""
    reading = Reading(root=path.parent, known=None, options={})
    rows = list(reading.table(path, _NEEDED))
    if reading.problems:
        raise DatasetError(str(reading.problems[0]))
    tasks = [name for name in (rows[0][1] if rows else ()) if name not in (*COLUMNS, *OPTIONAL)]
    if not tasks:
        raise DatasetError(
            f'{path}: expected rows, and a column for each task beside {_listed(_NEEDED)}'
        )
    ours = [
        (row, cells)
        for row, cells in rows
        if find_spelled(reading.root / cells['video']).resolve() == bag.path.resolve()
    ]
    if not ours:
        named = sorted({cells['video'] for _, cells in rows})
        raise BagError(
            bag.path, f'no row of {path.name} is about this bag; the rows name {_listed(named)}'
        )
    truths = {topic: Truth() for topic in topics}
    zeros_ns = {topic: bag.first_frame(topic).stamp_ns for topic in topics}
    for row, cells in ours:
        view = cells.get('view', '')
        if view and view not in bag.image_topics:
            raise BagError(
                bag.path,
                f'{path.name}:{row}: view {view!r}: expected one of {_listed(bag.image_topics)}',
            )
        span = _span(reading, path, row, cells)
        for topic in topics:
            if view in ('', topic):
                zero_ns = zeros_ns[topic]
                for task in tasks:
                    if cells[task]:
                        segment = TruthSegment(
                            label=cells[task],
                            start_ns=zero_ns + span[0],
                            end_ns=None if span[1] is None else zero_ns + span[1],
                        )
                        truths[topic].segments[task].append(segment)
    for topic, truth in truths.items():
        if not truth.segments:
            raise BagError(bag.path, f'no row of {path.name} is about {topic}')
    return truths


def _span(
    reading: Reading, path: Path, row: int, cells: Mapping[str, str]
) -> tuple[int, int | None]:
    """Return start and end in nanoseconds; the whole bag if the row gives neither."""
    if not cells['start'] and not cells['end']:
        return 0, None
    span = seconds_span(reading, path, row, cells)
    if span is None:
        raise DatasetError(str(reading.problems[-1]))
    return round(span.start * NANOSECONDS), round(span.end * NANOSECONDS)


def _in_order(bag: BagReader, topic: str, truth: Truth) -> Truth:
    """Return the segments sorted, touching ones of one label joined; refuse other overlaps."""
    ordered = Truth()
    for task, segments in truth.segments.items():
        joined: list[TruthSegment] = []
        for segment in sorted(segments, key=lambda each: each.start_ns):
            before = joined[-1] if joined else None
            if before and before.label == segment.label and segment.start_ns <= _end(before):
                last = max(_end(before), _end(segment))
                before.end_ns = None if last == _LAST_NS else last
            else:
                joined.append(replace(segment))
        for one, other in pairwise(joined):
            if other.start_ns < _end(one):
                raise BagError(
                    bag.path,
                    f'{topic}: {task} is labelled {one.label!r} and {other.label!r} at '
                    f'{_seconds(other.start_ns)}; expected one label at a time',
                )
        ordered.segments[task] = joined
    return ordered


def _end(segment: TruthSegment) -> int:
    return _LAST_NS if segment.end_ns is None else segment.end_ns


def _seconds(stamp_ns: int) -> str:
    return 'the end' if stamp_ns == _LAST_NS else f'{stamp_ns / NANOSECONDS:.3f} s'


def _listed(names: Iterable[str] | Collection[str]) -> str:
    return ', '.join(names) or 'none'
