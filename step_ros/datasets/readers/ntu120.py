# SPDX-License-Identifier: Apache-2.0
"""NTU RGB+D 120: one video per clip; its name gives setup, camera, subject and action."""

import os
import re
from pathlib import Path

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.reader import Option, ProblemKind, Reading
from step_ros.io.errors import DatasetError

OPTIONS = (
    Option(name='protocol', default='cross-subject', help='published split', one_of='splits'),
    Option(
        name='validation',
        default='',
        help='subjects or setups of the training part for validation, for example 1,2',
    ),
)
NAME = re.compile(
    r'S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<subject>\d{3})R\d{3}A(?P<action>\d{3})_rgb'
)
EXPECTED = 'SsssCcccPpppRrrrAaaa_rgb.avi'
SETUPS, SUBJECTS = 32, 106


def read_ntu120(reading: Reading) -> None:
    """Read the videos in all folders below the root.

    Raises:
        DatasetError: The folders hold no video.
    """
    found = False
    for folder, folders, files in os.walk(reading.root, followlinks=True):
        folders.sort()
        for name in sorted(files):
            if name.endswith('.avi'):
                found = True
                _read_name(reading, Path(folder) / name)
    if not found:
        raise DatasetError(f'{reading.root}: no video; expected files named {EXPECTED} below it')


def _read_name(reading: Reading, video: Path) -> None:
    task = reading.config.tasks[0]
    match = NAME.fullmatch(video.stem)
    if match is None:
        reading.add_problem('bad value', video, 0, 'file name', video.name, EXPECTED)
        return
    numbers = {name: int(text) for name, text in match.groupdict().items()}
    limits = {
        'setup': SETUPS,
        'camera': len(reading.config.views),
        'subject': SUBJECTS,
        'action': task.classes,
    }
    for name, highest in limits.items():
        if not 1 <= numbers[name] <= highest:
            kind: ProblemKind = 'unknown label' if name == 'action' else 'bad value'
            reading.add_problem(kind, video, 0, name, numbers[name], f'1 to {highest}')
            return
    split = reading.config.split(reading.options['protocol'])
    label = task.labels[numbers['action'] - 1]
    reading.add_clip(
        ClipRecord(
            clip_id=video.stem.removesuffix('_rgb'),
            video=video,
            split=str(split.part_of(numbers[split.unit], reading.validation('validation', split))),
            labels=reading.config.all_labels({task.name: label}),
            view=str(numbers['camera']),
            subject=f'P{numbers["subject"]:03d}',
        ),
        file=video,
    )
