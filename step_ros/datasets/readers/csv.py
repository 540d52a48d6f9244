# SPDX-License-Identifier: Apache-2.0
"""The user's own videos, listed in a CSV file `video,start,end,split,TASK...`.

The columns `view` and `subject` are optional. The functions below `read_csv` also serve the reader
of bags: rows of the CSV file, and a configuration from the labels in the data.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from step_ros.datasets.clip import ClipRecord, Span
from step_ros.datasets.reader import Option, Reading
from step_ros.datasets.schema import (
    DatasetConfig,
    Evaluation,
    Split,
    TaskConfig,
    View,
    load_dataset_config,
    names_a_side,
)
from step_ros.files import find_spelled
from step_ros.io.errors import DatasetError

COLUMNS = ('video', 'start', 'end', 'split')
OPTIONAL = ('view', 'subject')
PARTS = ('train', 'val', 'test')

CONFIG_OPTION = Option(
    name='config',
    default='',
    help='dataset file with labels and pairs; by default the labels come from the data',
)
OPTIONS = (
    Option(name='file', default='annotations.csv', help='the CSV file, from the root'),
    CONFIG_OPTION,
)

# The protocol of the papers for clips cut from longer videos.
PROTOCOL = Evaluation(sampling='interval', frames=16, interval=2, clips=3)

Row = tuple[int, dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class ClipRow:
    """A valid row of a CSV file.

    Attributes:
        video: Value of the column `video`.
        span: Part of the video; None for all of it.
        split: `train`, `val` or `test`.
        labels: Label of each task that the row labels.
    """

    video: str
    span: Span | None
    split: str
    labels: dict[str, str]


def read_csv(reading: Reading) -> None:
    """Read the clips; video paths are relative to the CSV file's folder, or absolute.

    Start and end are seconds; both empty mean the whole video.

    Raises:
        DatasetError: The file is missing, lacks a column or has no task.
    """
    path = find_spelled(reading.root / reading.options['file'])
    tasks, rows = read_rows(reading, path)
    reading.known = own_config(
        reading.options['config'],
        name=path.stem,
        where=str(path),
        title=path.name,
        labels={task: {cells[task] for _, cells in rows} - {''} for task in tasks},
        views=sorted({cells.get('view', '') for _, cells in rows}),
        more=reading.first_problem(),
    )
    for row, cells in rows:
        _read_row(reading, path, row, cells)


def _read_row(reading: Reading, path: Path, row: int, cells: dict[str, str]) -> None:
    clip = parse_row(reading, path, row, cells)
    if clip is None:
        return
    views = [view.name for view in reading.config.views]
    view = cells.get('view', views[0] if len(views) == 1 else '')
    if view not in views:
        reading.add_problem('bad value', path, row, 'view', view, f'one of {", ".join(views)}')
        return
    reading.add_clip(
        ClipRecord(
            clip_id=f'{clip.video}{span_suffix(clip.span)}',
            video=path.parent / clip.video,
            span=clip.span,
            split=clip.split,
            labels=clip.labels,
            view=view,
            subject=cells.get('subject', ''),
        ),
        file=path,
        row=row,
    )


def read_rows(reading: Reading, path: Path) -> tuple[list[str], list[Row]]:
    """Return the tasks and the rows of a CSV file.

    Raises:
        DatasetError: The file is missing, lacks a column, or has no rows or no task.
    """
    rows = list(reading.table(path, COLUMNS))
    if not rows:
        raise DatasetError(
            f'{path}: no rows; expected a row for each clip{reading.first_problem()}'
        )
    tasks = [name for name in rows[0][1] if name not in (*COLUMNS, *OPTIONAL)]
    if not tasks or '' in tasks:
        raise DatasetError(
            f'{path}: no task; expected a named column for each task beside {COLUMNS}'
        )
    return tasks, rows


def own_config(
    given: str,
    *,
    name: str,
    where: str,
    title: str,
    labels: Mapping[str, Collection[str]],
    views: Sequence[str],
    unit: str = 'column',
    more: str = '',
) -> DatasetConfig:
    """Return the configuration of the user's own data.

    Args:
        given: Name of a shipped dataset or path of a dataset file; empty to use the labels of the
            data.
        name: Name of the dataset.
        where: Source of the labels, for error messages.
        title: Title of the dataset in reports.
        labels: Labels in the data, by task.
        views: Names of the cameras.
        unit: Word for the place of a task's labels, for error messages.
        more: End of an error message; says which rows were left out.

    Raises:
        DatasetError: The dataset file is damaged or has a task that the data lack, or a task has
            fewer than two labels.
    """
    if given:
        config = load_dataset_config(given)
        for task in config.tasks:
            if task.derived_from is None and task.name not in labels:
                found = ', '.join(labels)
                raise DatasetError(
                    f'{where}: {unit} {task.name!r} of {given} is missing; found {found}'
                )
        return config
    return DatasetConfig(
        name=name,
        title=title,
        tasks=tuple(_task(where, unit, task, sorted(labels[task]), more) for task in labels),
        views=tuple(View(name=view, meaning=view or 'the one camera') for view in views),
        splits=(Split(name='file', unit='files'),),
        evaluation=PROTOCOL,
    )


def parse_row(
    reading: Reading, path: Path, row: int, cells: dict[str, str], *, may_lack_labels: bool = False
) -> ClipRow | None:
    """Return a row's clip; None, after noting a problem, if the row cannot be used.

    Args:
        reading: The reading; its configuration is set.
        path: The CSV file.
        row: Line number of the row, from 1.
        cells: Cells of the row, by column.
        may_lack_labels: Whether a row may leave tasks empty, as long as it labels one task.
    """
    labels: dict[str, str] = {}
    for task in reading.config.tasks:
        if task.derived_from is not None or (may_lack_labels and not cells[task.name]):
            continue
        label = task.find(cells[task.name])
        if label is None:
            expected = 'a label of the task'
            reading.add_problem('unknown label', path, row, task.name, cells[task.name], expected)
            return None
        labels[task.name] = label
    if not labels:
        reading.add_problem(
            'unknown label', path, row, 'tasks', '', 'a label of at least one task'
        )
        return None
    if cells['split'] not in PARTS:
        reading.add_problem('bad value', path, row, 'split', cells['split'], ', '.join(PARTS))
        return None
    if not cells['video']:
        reading.add_problem('bad value', path, row, 'video', '', 'a file')
        return None
    span: Span | None = None
    if cells['start'] or cells['end']:
        span = seconds_span(reading, path, row, cells)
        if span is None:
            return None
    return ClipRow(
        video=cells['video'],
        span=span,
        split=cells['split'],
        labels=with_derived(reading.config, labels),
    )


def with_derived(config: DatasetConfig, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels with those of derived tasks, in the order of the configuration."""
    found: dict[str, str] = {}
    for task in config.tasks:
        source = task.derived_from or task.name
        if source in labels:
            label = labels[source]
            found[task.name] = label if task.derived_from is None else task.derive(label)
    return found


def span_suffix(span: Span | None) -> str:
    """Return the part of a clip's name that gives its span; empty for a whole video."""
    return '' if span is None else f':{span.start!r}-{span.end!r}'


def _task(where: str, unit: str, name: str, labels: Sequence[str], more: str) -> TaskConfig:
    if len(labels) < 2:
        raise DatasetError(
            f'{where}: {unit} {name!r} holds {labels}; expected at least two labels{more}'
        )
    # The data do not say which label mirrors which, so clips of a left or right are not flipped.
    sides = tuple(label for label in labels if names_a_side(label))
    try:
        return TaskConfig(name=name, classes=len(labels), labels=tuple(labels), no_flip=sides)
    except ValidationError as error:
        why = error.errors()[0]['msg']
        raise DatasetError(f'{where}: {unit} {name!r}: {why}; expected plain labels') from error


def seconds_span(reading: Reading, path: Path, row: int, cells: Mapping[str, str]) -> Span | None:
    """Return the span of a row's cells `start` and `end`, in seconds; None after a problem."""
    return reading.span(
        cells['start'],
        cells['end'],
        unit='seconds',
        file=path,
        row=row,
        fields=('start', 'end'),
        convert=finite_seconds,
    )


def finite_seconds(text: str) -> float:
    """Return the seconds that a text gives.

    Raises:
        ValueError: The text is no finite number.
    """
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError(text)
    return seconds
