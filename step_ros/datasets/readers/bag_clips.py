# SPDX-License-Identifier: Apache-2.0
"""Read the clips of a folder of bags, by action events or by a CSV file.

`read_bag` describes the options, the events and the columns of the CSV file.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from step_ros.datasets.clip import ClipRecord, Span
from step_ros.datasets.reader import ProblemKind, Reading
from step_ros.datasets.readers.bag_events import Annotation, pair_events
from step_ros.datasets.readers.bag_selection import (
    Bags,
    add_bag_clip,
    add_bag_problem,
    chosen_cameras,
    chosen_labels,
    find_bags,
    open_bag,
    require_bags,
    view_names,
)
from step_ros.datasets.readers.csv import (
    PARTS,
    own_config,
    parse_row,
    read_rows,
    span_suffix,
    with_derived,
)
from step_ros.files import find_spelled
from step_ros.io.bags.metadata import BagError
from step_ros.io.bags.pictures import choose_pictures
from step_ros.io.bags.predictions import why_predicted
from step_ros.io.bags.reader import BagReader
from step_ros.io.errors import DatasetError
from step_ros.streaming.frame import Frame
from step_ros.streaming.grid import NANOSECONDS


@dataclass(frozen=True, kw_only=True)
class _Annotated:
    """A bag with its annotations.

    Attributes:
        name: Name of the bag, from the root.
        bag: The bag.
        split: `train`, `val` or `test`.
        annotations: Annotations that its events give.
        first: First frame of each chosen camera, by topic.
        others: Coordinate frames of its other cameras; empty unless an annotation needs them.
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
        DatasetError: No bag can be read, an option fits no bag, or labels are missing.
    """
    labels = reading.options['labels']
    if labels and not labels.startswith('/'):
        _read_table(reading, find_spelled(reading.root / labels))
    else:
        _read_events(reading)


# Clips by action events.


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
            add_bag_problem(reading, error, bag.path)
            continue
        annotated += [] if found is None else [found]
    labels_by_task: dict[str, set[str]] = {}
    for annotation in (annotation for found in annotated for annotation in found.annotations):
        for task, label in annotation.labels.items():
            labels_by_task.setdefault(task, set()).add(label)
    if not labels_by_task:
        raise DatasetError(
            f'{reading.root}: topic {labels} labels no clip{reading.first_problem()}'
        )
    reading.known = own_config(
        reading.options['config'],
        name='bag',
        where=f'{reading.root}: {labels}',
        title=f'bags in {reading.root.resolve().name}',
        labels=dict(sorted(labels_by_task.items())),
        views=topics,
        unit='task',
        more=reading.first_problem(),
    )
    views = view_names(reading.config, topics)
    for found in annotated:
        for annotation in found.annotations:
            _add_clips(reading, found, annotation, views)


def _annotate(
    reading: Reading, name: str, bag: BagReader, topics: Sequence[str], labels: str
) -> _Annotated | None:
    split = _split(reading, name, bag)
    cameras = _cameras(reading, bag, topics)
    if split is None or not cameras:
        return None
    if labels not in bag.event_topics:
        expected = f'a topic of ActionEvents, one of: {", ".join(bag.event_topics) or "none"}'
        reading.add_problem('bad value', bag.path, 0, 'labels', labels, expected)
        return None
    if sign := why_predicted(bag, labels):
        expected = f'true labels, not the events of a perception node: {sign}'
        reading.add_problem('bad value', bag.path, 0, 'labels', labels, expected)
        return None
    events = list(bag.events([labels]))
    if not events:
        reading.add_problem('bad value', bag.path, 0, labels, 'no event', 'at least one')
    first = {topic: bag.first_frame(topic) for topic in cameras}
    annotations = pair_events(events, partial(_add_event_problem, reading, bag.path))
    known = {'', *(frame.frame_id for frame in first.values())}
    others: set[str] = set()
    if any(annotation.frame_id not in known for annotation in annotations):
        rest = [
            topic
            for topic in bag.image_topics
            if topic not in first and bag.topics[topic].messages
        ]
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
    expected = 'a bag in train/, val/ or test/ under the root; or give option split'
    reading.add_problem('bad value', bag.path, 0, 'folder', name, expected)
    return None


def _cameras(reading: Reading, bag: BagReader, topics: Sequence[str]) -> list[str]:
    found = [topic for topic in topics if topic in bag.image_topics]
    if reading.options['topic'] == 'all':
        # A topic may hold pictures in one bag, and copies or nothing in another.
        found = [topic for topic in found if topic in choose_pictures(bag).topics]
    # With `all`, a bag needs only one of the topics.
    missing = [] if found and reading.options['topic'] == 'all' else {*topics} - {*found}
    for topic in sorted(missing):
        expected = f'an image topic, one of: {", ".join(bag.image_topics) or "none"}'
        reading.add_problem('missing video', bag.path, 0, 'topic', topic, expected)
    return found


def _add_clips(
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
        expected = f'empty, or the frame_id of images: {", ".join(map(repr, known))}'
        reading.add_problem('bad value', path, row, 'event frame_id', frame_id, expected)
    for topic, zero_ns in cameras.items():
        if annotation.start_ns < zero_ns and not annotation.start_recorded:
            # The recorder began in the middle of the action: its clip is not whole.
            reading.left_out['actions that began before the recording'] += 1
            continue
        if annotation.start_ns < zero_ns:
            expected = f'a START after the first image of {topic}, stamped {zero_ns} ns'
            reading.add_problem(
                'bad span', path, row, 'event stamp', annotation.start_ns, expected
            )
            continue
        span = Span(
            start=(annotation.start_ns - zero_ns) / NANOSECONDS,
            end=(annotation.end_ns - zero_ns) / NANOSECONDS,
            unit='seconds',
        )
        record = ClipRecord(
            clip_id=f'{found.name}{topic}{span_suffix(span)}',
            video=path,
            topic=topic,
            span=span,
            split=found.split,
            labels=labels,
            view=views[topic],
        )
        add_bag_clip(reading, record, path, row)


def _labels(reading: Reading, path: Path, annotation: Annotation) -> dict[str, str]:
    """Return the labels of known tasks; note a problem and return none if a label is unknown."""
    tasks = {task.name: task for task in reading.config.tasks if task.derived_from is None}
    labels: dict[str, str] = {}
    for task, written in annotation.labels.items():
        if task not in tasks:
            reading.left_out['events of other tasks'] += 1
            continue
        label = tasks[task].find(written)
        if label is None:
            expected = 'a label of the task'
            reading.add_problem('unknown label', path, annotation.row, task, written, expected)
            return {}
        labels[task] = label
    return with_derived(reading.config, labels)


def _add_event_problem(
    reading: Reading,
    path: Path,
    kind: ProblemKind,
    row: int,
    name: str,
    value: object,
    expected: str,
) -> None:
    reading.add_problem(kind, path, row, f'event {name}', value, expected)


# Clips by the rows of a CSV file.


def _read_table(reading: Reading, path: Path) -> None:
    if reading.options['split'] != 'folder':
        raise DatasetError(
            f'bag: option split={reading.options["split"]!r}: {path} has a column for it; remove '
            'the option'
        )
    tasks, rows = read_rows(reading, path)
    bags: Bags = {}
    seen: set[str] = set()
    for row, cells in rows:
        name = cells['video']
        if name and name not in seen:
            seen.add(name)
            open_bag(reading, bags, name, reading.root / name, file=path, row=row)
    require_bags(reading, bags)
    named = {cells.get('view', '') for _, cells in rows}
    all_named = '' not in named and not reading.options['topic']
    topics = tuple(sorted(named)) if all_named else chosen_cameras(reading, bags)
    reading.known = own_config(
        reading.options['config'],
        name=path.stem,
        where=str(path),
        title=path.name,
        labels={task: {cells[task] for _, cells in rows} - {''} for task in tasks},
        views=topics,
        more=reading.first_problem(),
    )
    views = view_names(reading.config, topics)
    skipped: set[str] = set()
    for row, cells in rows:
        name = cells['video']
        if name in bags or not name:
            _read_row(reading, path, row, cells, bags, views)
        elif name in skipped:
            # `open_bag` noted the problem once: a bag may hold hundreds of clips.
            reading.left_out['further clips of missing or damaged bags'] += 1
        else:
            skipped.add(name)


def _read_row(
    reading: Reading,
    path: Path,
    row: int,
    cells: dict[str, str],
    bags: Bags,
    views: Mapping[str, str],
) -> None:
    clip = parse_row(reading, path, row, cells, may_lack_labels=True)
    if clip is None:
        return
    bag = bags[clip.video]
    topic = cells.get('view', '')
    if topic in bag.image_topics and topic not in views:
        reading.left_out['clips of other cameras'] += 1
        return
    cameras = [name for name in bag.image_topics if name in views and topic in ('', name)]
    if len(cameras) != 1:
        known = ', '.join(bag.image_topics) or 'none'
        expected = f'one of the image topics of {bag.path}: {known}'
        reading.add_problem('bad value', path, row, 'view', topic, expected)
        return
    record = ClipRecord(
        clip_id=f'{clip.video}{cameras[0]}{span_suffix(clip.span)}',
        video=bag.path,
        topic=cameras[0],
        span=clip.span,
        split=clip.split,
        labels=clip.labels,
        view=views[cameras[0]],
        subject=cells.get('subject', ''),
    )
    add_bag_clip(reading, record, path, row)
