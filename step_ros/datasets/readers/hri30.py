# SPDX-License-Identifier: Apache-2.0
"""HRI-30: one video per clip, labels in a CSV file without header."""

import re
from pathlib import Path

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.reader import Option, Reading

# Not published, so the reader does not require it.
TEST_LABELS = 'annotations/test_set_labels.csv'
OPTIONS = (
    Option(name='split', default='1', help='published split; the papers use 1', one_of='splits'),
    Option(
        name='validation_groups',
        default='',
        help='groups of the training part for validation, for example 9,10',
    ),
    Option(name='annotations', default='annotations/train_set_labels.csv', help='training labels'),
    Option(
        name='test_annotations',
        default=TEST_LABELS,
        help='test labels in the same form, if you have them',
    ),
    Option(name='videos', default='train_set', help='folder of the training videos'),
    Option(name='test_videos', default='test_set', help='folder of the test videos'),
)
# The paper describes v_LABEL_gGG_cCC; the copies in circulation use CIDcc_SIDss_VIDvv.
PAPER_NAME = re.compile(r'v_(?P<label>.+)_g(?P<group>\d+)_c\d+')
CIRCULATED_NAME = re.compile(r'CID(?P<cid>\d+)_SID(?P<group>\d+)_VID\d+')
# Test videos in circulation lost their groups; their number is that of split 1's test part.
TEST_NAME = re.compile(r'testvideo\d+')
TEST_NAME_SPLIT = '1'
COLUMNS = ('video_id', 'class_name', 'class_id')


def read_hri30(reading: Reading) -> None:
    """Read the training labels, and the test labels if they exist.

    Raises:
        DatasetError: The training labels are missing or unreadable.
    """
    _read_labels(reading, reading.root / reading.options['annotations'], 'videos')
    given = reading.options['test_annotations']
    test_labels = reading.root / given
    folder = reading.root / reading.options['test_videos']
    if given != TEST_LABELS or test_labels.is_file():
        _read_labels(reading, test_labels, 'test_videos')
    elif folder.is_dir():
        videos = sum(1 for _ in folder.rglob('*.avi'))
        if videos:
            reading.left_out['test videos without labels'] += videos


def _read_labels(reading: Reading, path: Path, folder_option: str) -> None:
    task = reading.config.tasks[0]
    folder = reading.root / reading.options[folder_option]
    for row, cells in reading.table(path, COLUMNS, header=False):
        name = cells['video_id'].removesuffix('.avi')
        label = task.find(cells['class_name'])
        if label is None:
            reading.add_problem(
                'unknown label', path, row, 'class_name', cells['class_name'], 'a class'
            )
            continue
        class_id = str(task.labels.index(label) + 1)
        if cells['class_id'] != class_id:
            expected = f'{class_id}, the id of {label}'
            reading.add_problem(
                'unknown label', path, row, 'class_id', cells['class_id'], expected
            )
            continue
        placed = _place(reading, path, row, name, label)
        if placed is None:
            continue
        part, group = placed
        # Some copies have a folder for each class.
        flat = folder / f'{name}.avi'
        nested = folder / class_id / f'{name}.avi'
        video = nested if not reading.is_file(flat) and reading.is_file(nested) else flat
        reading.add_clip(
            ClipRecord(
                clip_id=name,
                video=video,
                split=part,
                labels=reading.config.all_labels({task.name: label}),
                subject=group,
            ),
            file=path,
            row=row,
        )


def _place(
    reading: Reading, path: Path, row: int, name: str, label: str
) -> tuple[str, str] | None:
    """Return part and group of a video by its name; None, after noting a problem, if unknown."""
    split = reading.config.split(reading.options['split'])
    if TEST_NAME.fullmatch(name) and split.name == TEST_NAME_SPLIT:
        return 'test', ''
    match = CIRCULATED_NAME.fullmatch(name) or PAPER_NAME.fullmatch(name)
    if match is None:
        expected = f'CIDcc_SIDss_VIDvv or v_LABEL_gGG_cCC, to find its group in split {split.name}'
        reading.add_problem('bad value', path, row, 'video_id', name, expected)
        return None
    fields = match.groupdict()
    task = reading.config.tasks[0]
    if 'cid' in fields and int(fields['cid']) != task.labels.index(label) + 1:
        expected = f'CID{task.labels.index(label) + 1:02d}, the class of {label}'
        reading.add_problem('unknown label', path, row, 'video_id', name, expected)
        return None
    if 'label' in fields and task.find(fields['label']) != label:
        reading.add_problem('unknown label', path, row, 'video_id', name, f'v_{label}_...')
        return None
    part = split.part_of(int(fields['group']), reading.validation('validation_groups', split))
    if part is None:
        expected = f'a group of split {split.name}: 1 to {max(split.train + split.test)}'
        reading.add_problem('bad value', path, row, 'video_id', name, expected)
        return None
    return part, f'group {int(fields["group"])}'
