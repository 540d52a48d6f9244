# SPDX-License-Identifier: Apache-2.0
"""IKEA-ASM: one video per scan and camera.

Segments come from gt_segments.json or from the annotation database.
"""

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from step_ros.datasets.clip import ClipRecord, Span
from step_ros.datasets.reader import Option, Reading, read_json
from step_ros.datasets.schema import Part
from step_ros.io.errors import DatasetError

OPTIONS = (
    Option(name='view', default='dev3', help='camera, or all', one_of='views'),
    Option(
        name='validation_environment',
        default='3',
        help='training environment for validation: 1, 3 or 5; empty for none',
    ),
    Option(
        name='annotations',
        default='gt_segments.json',
        help='gt_segments.json, or the database ikea_annotation_db_full',
    ),
    Option(name='videos', default='.', help="folder that holds the furniture's folders"),
)
BACKGROUND = 'NA'
VIDEO = 'scan_video.avi'
SCAN = re.compile(r'[^/]+/(?P<person>\d+)_[^_/]+_[^_/]+_(?P<calibration>\d+)_\d+_[^/]+')
SUBSETS: dict[str, tuple[Part, ...]] = {'training': ('train', 'val'), 'testing': ('test',)}
# The dataset's own export drops segments of a single frame.
SHORTEST = 2
VIDEO_COLUMNS = ('id', 'video_path', 'camera', 'annotated', 'nframes')
ANNOTATION_COLUMNS = (
    'video_id',
    'starting_frame',
    'ending_frame',
    'action_description',
    'object_name',
)

# Row number, and the columns after the first.
Annotation = tuple[int, list[object]]


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A recording of one person who assembles a piece of furniture.

    Attributes:
        name: `FURNITURE/SCAN`.
        part: Part of the split.
        person: Number of the person.
    """

    name: str
    part: Part
    person: str


def read_ikea_asm(reading: Reading) -> None:
    """Read the segments of the chosen views.

    Raises:
        DatasetError: The annotations are missing, unreadable or lack a column.
    """
    path = reading.root / reading.options['annotations']
    if path.suffix == '.json':
        _read_segments(reading, path)
    else:
        _read_database(reading, path)


def _scan(reading: Reading, path: Path, row: int, name: str) -> Scan | None:
    """Return a scan by its name; None, after noting a problem, if its part is unknown."""
    if 'special' in name:
        reading.left_out['special scans, in neither part'] += 1
        return None
    split = reading.config.splits[0]
    match = SCAN.fullmatch(name)
    if match is None:
        expected = 'FURNITURE/PERSON_COLOUR_PLACE_CALIBRATION_ROOM_DATE'
        reading.add_problem('bad value', path, row, 'scan', name, expected)
        return None
    environment = split.number_of(int(match['calibration']))
    validation = reading.validation('validation_environment', split)
    part = None if environment is None else split.part_of(environment, validation)
    if part is None:
        known = sorted(number for some in split.members.values() for number in some)
        reading.add_problem(
            'bad value', path, row, 'scan', name, f'a calibration number out of {known}'
        )
        return None
    return Scan(name=name, part=part, person=match['person'])


def _add(
    reading: Reading, scan: Scan, view: str, label: str, span: Span, path: Path, row: int
) -> None:
    reading.add_clip(
        ClipRecord(
            clip_id=f'{scan.name}/{view}/{span.start:.0f}-{span.end:.0f}',
            video=reading.root / reading.options['videos'] / scan.name / view / 'images' / VIDEO,
            span=span,
            split=scan.part,
            labels=reading.config.all_labels({reading.config.tasks[0].name: label}),
            view=view,
            subject=scan.person,
        ),
        file=path,
        row=row,
    )


def _read_segments(reading: Reading, path: Path) -> None:
    """Read gt_segments.json; its segments include their last frame."""
    content = read_json(path, 'an object with the key database')
    try:
        entries = [
            (str(name), str(entry['subset']), list(entry['annotation']))
            for name, entry in content['database'].items()
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise DatasetError(
            f'{path}: {error!r}; expected database: {{SCAN: {{subset, annotation}}}}'
        ) from error
    for row, (name, subset, annotation) in enumerate(entries, start=1):
        scan = _scan(reading, path, row, name)
        if scan is None:
            continue
        if scan.part not in SUBSETS.get(subset, ()):
            expected = f'the subset of a {scan.part} environment, {name}'
            reading.add_problem('bad value', path, row, 'subset', subset, expected)
            continue
        for label, span in _segments(reading, path, row, annotation):
            for view in reading.views():
                _add(reading, scan, view, label, span, path, row)


def _segments(
    reading: Reading, path: Path, row: int, annotation: list[object]
) -> Iterator[tuple[str, Span]]:
    for entry in annotation:
        if not isinstance(entry, dict) or not {'label', 'segment'} <= entry.keys():
            reading.add_problem(
                'bad value', path, row, 'annotation', entry, 'keys label and segment'
            )
            continue
        label = reading.config.tasks[0].find(str(entry['label']))
        if label is None:
            reading.add_problem('unknown label', path, row, 'label', entry['label'], 'an action')
            continue
        match entry['segment']:
            case [int(first), int(last)] if 0 <= first <= last:
                yield label, Span(start=first, end=last + 1, unit='frames')
            case segment:
                expected = 'two frames, 0 <= first <= last'
                reading.add_problem('bad span', path, row, 'segment', segment, expected)


def _read_database(reading: Reading, path: Path) -> None:
    """Read the annotation database and cut segments like the dataset's export to gt_segments.json.

    Frames without an action are background. A later annotation covers an earlier one. An action
    that is no class counts as background; classes occur more than 20 times.
    """
    if not path.is_file():
        raise DatasetError(f'{path}: there is no such file; expected an sqlite database')
    try:
        # Read-only: reading must not change the database.
        database = sqlite3.connect(f'{path.resolve().as_uri()}?mode=ro', uri=True)
    except sqlite3.Error as error:
        raise DatasetError(f'{path}: {error}; expected an sqlite database') from error
    try:
        videos = _rows(database, path, 'videos', VIDEO_COLUMNS)
        annotations: dict[object, list[Annotation]] = {}
        found = _rows(database, path, 'annotations', ANNOTATION_COLUMNS)
        for row, (video, *values) in enumerate(found, start=1):
            annotations.setdefault(video, []).append((row, values))
    finally:
        database.close()
    for row, (video, folder, view, annotated, frames) in enumerate(videos, start=1):
        if str(annotated).lower() not in ('1', 'true') or view not in reading.views():
            continue
        scan = _scan(reading, path, row, '/'.join(str(folder).split('/')[:2]))
        if scan is None:
            continue
        if not isinstance(frames, int) or frames < 1:
            reading.add_problem('bad value', path, row, 'nframes', frames, 'a number of frames')
            continue
        painted = _paint(reading, path, frames, annotations.get(video, []))
        for label, span in _runs(painted, reading.config.tasks[0].labels):
            _add(reading, scan, str(view), label, span, path, row)


def _rows(
    database: sqlite3.Connection, path: Path, table: str, columns: tuple[str, ...]
) -> list[tuple[object, ...]]:
    try:
        names = [row[1] for row in database.execute(f'PRAGMA table_info({table})')]
        for column in columns:
            if column not in names:
                found = ', '.join(names) or 'no such table'
                raise DatasetError(
                    f'{path}: table {table}: column {column!r} is missing; found {found}'
                )
        return database.execute(
            f'SELECT {", ".join(columns)} FROM {table} ORDER BY rowid'
        ).fetchall()
    except sqlite3.Error as error:
        raise DatasetError(
            f'{path}: table {table}: {error}; expected an sqlite database'
        ) from error


def _paint(reading: Reading, path: Path, frames: int, annotations: list[Annotation]) -> np.ndarray:
    """Return the class of each frame; -1 if its annotation cannot be used."""
    task = reading.config.tasks[0]
    painted = np.full(frames, task.labels.index(BACKGROUND), dtype=np.int16)
    for row, (start, end, description, thing) in annotations:
        name = str(description)
        if '...' in name:
            name = f'{name.split("...")[0].strip()} {thing}'
        label = task.find(name.strip())
        if label is None:
            reading.left_out['annotations of rare actions, background by the dataset'] += 1
        elif not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end:
            fields, expected = 'starting_frame, ending_frame', '0 <= start < end'
            reading.add_problem('bad span', path, row, fields, f'{start}, {end}', expected)
        elif end > frames:
            expected = f'at most {frames}, the frames of the video'
            reading.add_problem('bad span', path, row, 'ending_frame', end, expected)
            painted[start:] = -1
        else:
            painted[start:end] = task.labels.index(label)
    return painted


def _runs(painted: np.ndarray, labels: tuple[str, ...]) -> Iterator[tuple[str, Span]]:
    edges = np.flatnonzero(np.diff(painted)) + 1
    for start, end in zip([0, *edges.tolist()], [*edges.tolist(), len(painted)], strict=True):
        if painted[start] >= 0 and end - start >= SHORTEST:
            yield labels[painted[start]], Span(start=start, end=end, unit='frames')
