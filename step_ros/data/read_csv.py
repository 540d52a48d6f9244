"""One's own videos: a CSV file `video,start,end,split,TASK...`, perhaps with `view`, `subject`."""

import math
from pathlib import Path

from pydantic import ValidationError

from step_ros.data.clip_record import ClipRecord, Span
from step_ros.data.dataset_schema import (
    DatasetConfig,
    DatasetError,
    Evaluation,
    Split,
    View,
    load_dataset_config,
)
from step_ros.data.reading import Option, Reading
from step_ros.data.task_schema import TaskConfig, names_a_side

OPTIONS = (
    Option(name='file', default='annotations.csv', help='the CSV file, from the root'),
    Option(
        name='config',
        default='',
        help='dataset file with labels and pairs; without it the labels are those that occur',
    ),
)
COLUMNS = ('video', 'start', 'end', 'split')
OPTIONAL = ('view', 'subject')
PARTS = ('train', 'val', 'test')
# The papers', for clips cut from longer videos.
PROTOCOL = Evaluation(sampling='interval', frames=16, interval=2, clips=3)
Row = tuple[int, dict[str, str]]


def read_csv(reading: Reading) -> None:
    """Read the clips; videos lie beside the file or where an absolute path says.

    Start and end count seconds; both empty mean the whole video.

    Raises:
        DatasetError: The file is missing, lacks a column or has no task.
    """
    path = reading.root / reading.options['file']
    rows = list(reading.table(path, COLUMNS))
    if not rows:
        raise DatasetError(f'{path}: no rows; expected one for each clip')
    tasks = [name for name in rows[0][1] if name not in (*COLUMNS, *OPTIONAL)]
    if not tasks or '' in tasks:
        raise DatasetError(f'{path}: expected a named column for each task beside {COLUMNS}')
    reading.known = _config(reading, path, tasks, rows)
    for row, cells in rows:
        _read_row(reading, path, row, cells)


def _config(reading: Reading, path: Path, tasks: list[str], rows: list[Row]) -> DatasetConfig:
    given = reading.options['config']
    if given:
        config = load_dataset_config(given)
        for task in config.tasks:
            if task.derived_from is None and task.name not in tasks:
                raise DatasetError(
                    f'{path}: column {task.name!r} of {given} is missing; found {", ".join(tasks)}'
                )
        return config
    configs: list[TaskConfig] = []
    for name in tasks:
        labels = tuple(sorted({cells[name] for _, cells in rows} - {''}))
        if len(labels) < 2:
            raise DatasetError(
                f'{path}: column {name!r} holds {list(labels)}; expected at least two labels'
            )
        # Which label mirrors which is not said: clips of a side are not flipped.
        sides = tuple(label for label in labels if names_a_side(label))
        try:
            configs.append(
                TaskConfig(name=name, classes=len(labels), labels=labels, no_flip=sides)
            )
        except ValidationError as error:
            why = error.errors()[0]['msg']
            raise DatasetError(f'{path}: column {name!r}: {why}; expected plain labels') from error
    views = sorted({cells.get('view', '') for _, cells in rows})
    return DatasetConfig(
        name=path.stem,
        title=path.name,
        tasks=tuple(configs),
        views=tuple(View(name=name, meaning=name or 'the one camera') for name in views),
        splits=(Split(name='file', unit='files'),),
        evaluation=PROTOCOL,
    )


def _read_row(reading: Reading, path: Path, row: int, cells: dict[str, str]) -> None:
    labels: dict[str, str] = {}
    for task in reading.config.tasks:
        if task.derived_from is not None:
            continue
        label = task.find(cells[task.name])
        if label is None:
            expected = 'a label of the task'
            reading.complain('unknown label', path, row, task.name, cells[task.name], expected)
            return
        labels[task.name] = label
    if cells['split'] not in PARTS:
        reading.complain('bad value', path, row, 'split', cells['split'], ', '.join(PARTS))
        return
    if not cells['video']:
        reading.complain('bad value', path, row, 'video', '', 'a file')
        return
    views = [view.name for view in reading.config.views]
    view = cells.get('view', views[0] if len(views) == 1 else '')
    if view not in views:
        reading.complain('bad value', path, row, 'view', view, f'one of {", ".join(views)}')
        return
    span: Span | None = None
    if cells['start'] or cells['end']:
        span = reading.span(
            cells['start'],
            cells['end'],
            unit='seconds',
            file=path,
            row=row,
            fields=('start', 'end'),
            convert=_seconds,
        )
        if span is None:
            return
    where = '' if span is None else f':{span.start!r}-{span.end!r}'
    reading.add(
        ClipRecord(
            clip_id=f'{cells["video"]}{where}',
            video=path.parent / cells['video'],
            span=span,
            split=cells['split'],
            labels=reading.config.all_labels(labels),
            view=view,
            subject=cells.get('subject', ''),
        ),
        file=path,
        row=row,
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError(text)
    return seconds
