"""The clips of a folder of bags; `read_bag.py` says what is read and how."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from step_ros.datasets.clip import ClipRecord, Span
from step_ros.datasets.reader import ProblemKind, Reading
from step_ros.datasets.readers.bag import (
    Annotation,
    Bags,
    add_clip,
    chosen_cameras,
    chosen_labels,
    complain_of_bag,
    find_bags,
    first_problem,
    open_bag,
    pair_events,
    read_table,
    require_bags,
    view_names,
)
from step_ros.datasets.readers.csv import PARTS, own_config, place_of, with_derived
from step_ros.io.bags.metadata import BagError
from step_ros.io.bags.reader import BagReader
from step_ros.io.errors import DatasetError
from step_ros.streaming.frame import Frame
from step_ros.streaming.grid import NANOSECONDS


@dataclass(frozen=True, kw_only=True)
class _Annotated:
    """A bag with its annotations.

    Attributes:
        name: Its name from the root.
        bag: The bag.
        split: `train`, `val` or `test`.
        annotations: What its events say.
        first: The first frame of each chosen camera, by its topic.
        others: Coordinate frames of its other cameras, where an annotation needs them.
    """

    name: str
    bag: BagReader
    split: str
    annotations: list[Annotation]
    first: Mapping[str, Frame]
    others: Collection[str]


def read_clips(reading: Reading) -> None:
    """Read the clips of a folder of bags, or of one bag.

    Raises:
        DatasetError: No bag can be read, an option fits none of them, or there are no labels.
    """
    labels = reading.options['labels']
    if labels and not labels.startswith('/'):
        read_table(reading, reading.root / labels)
    else:
        _read_events(reading)


def _read_events(reading: Reading) -> None:
    split = reading.options['split']
    if split not in ('folder', *PARTS):
        raise DatasetError(f'bag: option split={split!r}: expected folder, {", ".join(PARTS)}')
    bags: Bags = {}
    for name, path in find_bags(reading.root):
        open_bag(reading, bags, name, path, file=path)
    require_bags(reading, bags)
    topics, labels = chosen_cameras(reading, bags), chosen_labels(reading, bags)
    annotated = []
    for name, bag in bags.items():
        try:
            found = _annotate(reading, name, bag, topics, labels)
        except BagError as error:
            complain_of_bag(reading, error, bag.path)
            continue
        annotated += [] if found is None else [found]
    occurring: dict[str, set[str]] = {}
    for annotation in (annotation for found in annotated for annotation in found.annotations):
        for task, label in annotation.labels.items():
            occurring.setdefault(task, set()).add(label)
    if not occurring:
        raise DatasetError(f'{reading.root}: {labels} labels no clip{first_problem(reading)}')
    reading.known = own_config(
        reading.options['config'],
        name='bag',
        where=f'{reading.root}: {labels}',
        title=f'bags in {reading.root.resolve().name}',
        labels=dict(sorted(occurring.items())),
        views=topics,
        unit='task',
    )
    views = view_names(reading.config, topics)
    for found in annotated:
        for annotation in found.annotations:
            _add(reading, found, annotation, views)


def _annotate(
    reading: Reading, name: str, bag: BagReader, topics: Sequence[str], labels: str
) -> _Annotated | None:
    split = _split(reading, name, bag)
    cameras = _cameras(reading, bag, topics)
    if split is None or not cameras:
        return None
    if labels not in bag.event_topics:
        expected = f'a topic of ActionEvents; there are: {", ".join(bag.event_topics) or "none"}'
        reading.complain('bad value', bag.path, 0, 'labels', labels, expected)
        return None
    events = list(bag.events([labels]))
    if not events:
        reading.complain('bad value', bag.path, 0, labels, 'no event', 'at least one')
    first = {topic: bag.first_frame(topic) for topic in cameras}
    annotations = pair_events(events, partial(_complain_of_event, reading, bag.path))
    known = {'', *(frame.frame_id for frame in first.values())}
    others: set[str] = set()
    if any(annotation.frame_id not in known for annotation in annotations):
        rest = [topic for topic in bag.image_topics if topic not in first]
        others = {bag.first_frame(topic).frame_id for topic in rest}
    return _Annotated(
        name=name, bag=bag, split=split, annotations=annotations, first=first, others=others
    )


def _split(reading: Reading, name: str, bag: BagReader) -> str | None:
    if reading.options['split'] != 'folder':
        return reading.options['split']
    split = PurePosixPath(name).parts[0]
    if split in PARTS and bag.path != reading.root:
        return split
    expected = 'a bag in train/, val/ or test/ under the root; or name one of them by option split'
    reading.complain('bad value', bag.path, 0, 'folder', name, expected)
    return None


def _cameras(reading: Reading, bag: BagReader, topics: Sequence[str]) -> list[str]:
    there = [topic for topic in topics if topic in bag.image_topics]
    # All means those that a bag has, as long as it has one.
    lacking = [] if there and reading.options['topic'] == 'all' else {*topics} - {*there}
    for topic in sorted(lacking):
        expected = f'an image topic; there are: {", ".join(bag.image_topics) or "none"}'
        reading.complain('missing video', bag.path, 0, 'topic', topic, expected)
    return there


def _add(
    reading: Reading, found: _Annotated, annotation: Annotation, views: Mapping[str, str]
) -> None:
    labels = _labels(reading, found.bag.path, annotation)
    if not labels:
        return
    path, row, frame_id = found.bag.path, annotation.row, annotation.frame_id
    cameras = {
        topic: frame.stamp_ns
        for topic, frame in found.first.items()
        if frame_id in ('', frame.frame_id)
    }
    if not cameras and frame_id in found.others:
        reading.left_out['clips of other cameras'] += 1
    elif not cameras:
        known = sorted({*found.others, *(frame.frame_id for frame in found.first.values())})
        expected = f'empty, or that of the images: {", ".join(map(repr, known))}'
        reading.complain('bad value', path, row, 'event frame_id', frame_id, expected)
    for topic, zero_ns in cameras.items():
        if annotation.start_ns < zero_ns:
            expected = f'a START after the first image of {topic}, stamped {zero_ns} ns'
            reading.complain('bad span', path, row, 'event stamp', annotation.start_ns, expected)
            continue
        span = Span(
            start=(annotation.start_ns - zero_ns) / NANOSECONDS,
            end=(annotation.end_ns - zero_ns) / NANOSECONDS,
            unit='seconds',
        )
        record = ClipRecord(
            clip_id=f'{found.name}{topic}{place_of(span)}',
            video=path,
            topic=topic,
            span=span,
            split=found.split,
            labels=labels,
            view=views[topic],
        )
        add_clip(reading, record, path, row)


def _labels(reading: Reading, path: Path, annotation: Annotation) -> dict[str, str]:
    """Return the labels that the configuration knows; none, and noted, where one is unknown."""
    tasks = {task.name: task for task in reading.config.tasks if task.derived_from is None}
    labels: dict[str, str] = {}
    for task, written in annotation.labels.items():
        if task not in tasks:
            reading.left_out['events of other tasks'] += 1
            continue
        label = tasks[task].find(written)
        if label is None:
            expected = 'a label of the task'
            reading.complain('unknown label', path, annotation.row, task, written, expected)
            return {}
        labels[task] = label
    return with_derived(reading.config, labels)


def _complain_of_event(
    reading: Reading,
    path: Path,
    kind: ProblemKind,
    row: int,
    name: str,
    value: object,
    expected: str,
) -> None:
    reading.complain(kind, path, row, f'event {name}', value, expected)
