# SPDX-License-Identifier: Apache-2.0
"""Drive&Act: chunks of at most three seconds, one CSV file for each view, split and part."""

import re

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.reader import Option, Reading

OPTIONS = (
    Option(
        name='split', default='0', help='published split; the papers average all', one_of='splits'
    ),
    Option(name='view', default='kinect_color', help='camera, or all', one_of='views'),
    Option(name='annotations', default='activities_3s', help='folder of the label files'),
    Option(name='videos', default='.', help="folder that holds the views' folders"),
)
PARTS = ('train', 'val', 'test')
COLUMNS = (
    'participant_id',
    'file_id',
    'annotation_id',
    'frame_start',
    'frame_end',
    'activity',
    'chunk_id',
)
FILE_ID = re.compile(r'vp(\d+)/[^/]+')


def read_drive_and_act(reading: Reading) -> None:
    """Read the chunks of one split in the chosen views.

    A chunk does not include `frame_end`: the next chunk of the annotation starts there.

    Raises:
        DatasetError: A label file is missing or lacks a column.
    """
    split = reading.options['split']
    for view in reading.views():
        for part in PARTS:
            _read_part(reading, view, part, f'midlevel.chunks_90.split_{split}.{part}.csv')


def _read_part(reading: Reading, view: str, part: str, name: str) -> None:
    task = reading.config.tasks[0]
    path = reading.root / reading.options['annotations'] / view / name
    folder = reading.root / reading.options['videos'] / view
    for row, cells in reading.table(path, COLUMNS):
        activity = cells['activity']
        if activity in task.ignored:
            reading.left_out[f'{activity}: no class of the benchmark'] += 1
            continue
        label = task.find(activity)
        if label is None:
            reading.add_problem('unknown label', path, row, 'activity', activity, 'an activity')
            continue
        match = FILE_ID.fullmatch(cells['file_id'])
        if match is None or match[1] != cells['participant_id']:
            expected = f'vp{cells["participant_id"]}/RUN'
            reading.add_problem('bad value', path, row, 'file_id', cells['file_id'], expected)
            continue
        span = reading.span(
            cells['frame_start'],
            cells['frame_end'],
            unit='frames',
            file=path,
            row=row,
            fields=('frame_start', 'frame_end'),
            convert=int,
        )
        if span is None:
            continue
        reading.add_clip(
            ClipRecord(
                clip_id=f'{view}/{cells["file_id"]}:{cells["annotation_id"]}:{cells["chunk_id"]}',
                video=folder / f'{cells["file_id"]}.mp4',
                span=span,
                split=part,
                labels=reading.config.all_labels({task.name: label}),
                view=view,
                subject=f'vp{cells["participant_id"]}',
            ),
            file=path,
            row=row,
        )
