# SPDX-License-Identifier: Apache-2.0
"""Something-Something v2: one video per clip, labels as templates in JSON files."""

from collections.abc import Iterator
from pathlib import Path

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.reader import Option, Reading, read_json
from step_ros.io.errors import DatasetError

OPTIONS = (
    Option(name='annotations', default='labels', help='folder of the label files'),
    Option(name='videos', default='20bn-something-something-v2', help='folder of the videos'),
)
# The label files of an older release have a prefix.
PREFIXES = ('', 'something-something-v2-')
TEST_LABELS = 'test-answers.csv'


def read_ssv2(reading: Reading) -> None:
    """Read the training and validation parts, and the test part if its labels exist.

    Raises:
        DatasetError: A label file is missing or unreadable.
    """
    _check_order(reading)
    for part, name in (('train', 'train'), ('val', 'validation')):
        path = _find(reading, f'{name}.json')
        if path is None:
            folder = reading.root / reading.options['annotations']
            raise DatasetError(f'{folder}: expected {name}.json or {PREFIXES[1]}{name}.json in it')
        for row, entry in _entries(path):
            if 'template' not in entry:
                raise DatasetError(f'{path}: entry {row} has no template; expected id, template')
            _add(reading, part, path, row, str(entry['id']), str(entry['template']))
    test_labels = _find(reading, TEST_LABELS)
    if test_labels is not None:
        for row, line in enumerate(_lines(test_labels), start=1):
            clip, separator, template = line.partition(';')
            if not separator:
                reading.add_problem('bad value', test_labels, row, 'line', line, 'id;template')
            elif not (row == 1 and clip == 'id'):
                _add(reading, 'test', test_labels, row, clip.strip(), template.strip())
    elif (test := _find(reading, 'test.json')) is not None:
        reading.left_out[f'test clips without labels ({TEST_LABELS} is not there)'] += sum(
            1 for _ in _entries(test)
        )


def _add(reading: Reading, part: str, path: Path, row: int, clip: str, template: str) -> None:
    task = reading.config.tasks[0]
    label = task.find(template.replace('[', '').replace(']', ''))
    if label is None:
        reading.add_problem(
            'unknown label', path, row, 'template', template, 'one of the 174 templates'
        )
        return
    if not clip.isdigit():
        reading.add_problem('bad value', path, row, 'id', clip, 'a number')
        return
    reading.add_clip(
        ClipRecord(
            clip_id=clip,
            video=reading.root / reading.options['videos'] / f'{clip}.webm',
            split=part,
            labels=reading.config.all_labels({task.name: label}),
        ),
        file=path,
        row=row,
    )


def _check_order(reading: Reading) -> None:
    """Note a problem for each label of labels.json that differs from the configuration."""
    path = _find(reading, 'labels.json')
    if path is None:
        return
    task = reading.config.tasks[0]
    content = read_json(path, 'an object that maps templates to numbers')
    if not isinstance(content, dict):
        raise DatasetError(f'{path}: expected an object that maps templates to numbers')
    for label, number in content.items():
        if label not in task.labels:
            reading.add_problem('unknown label', path, 0, 'template', label, 'a known template')
        elif str(number) != str(task.labels.index(label)):
            expected = f'{task.labels.index(label)} for {label!r}'
            reading.add_problem('unknown label', path, 0, 'number', number, expected)


def _find(reading: Reading, name: str) -> Path | None:
    folder = reading.root / reading.options['annotations']
    paths = [folder / f'{prefix}{name}' for prefix in PREFIXES]
    return next((path for path in paths if reading.is_file(path)), None)


def _entries(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    content = read_json(path, 'a list of clips')
    if not isinstance(content, list):
        raise DatasetError(f'{path}: expected a list of clips, each with id and template')
    for row, entry in enumerate(content, start=1):
        if not isinstance(entry, dict) or 'id' not in entry:
            raise DatasetError(f'{path}: entry {row} has no id; expected id, template')
        yield row, entry


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding='utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f'{path}: not readable: {error}; expected id;template') from error
