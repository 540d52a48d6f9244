"""What one's own data share, videos or bags: the labels that occur, and the rows of a CSV file."""

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
from step_ros.io.errors import DatasetError

CONFIG_OPTION = Option(
    name='config',
    default='',
    help='dataset file with labels and pairs; without it the labels are those that occur',
)

COLUMNS = ('video', 'start', 'end', 'split')

OPTIONAL = ('view', 'subject')

PARTS = ('train', 'val', 'test')

# The papers', for clips cut from longer videos.
PROTOCOL = Evaluation(sampling='interval', frames=16, interval=2, clips=3)

Row = tuple[int, dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class ClipRow:
    """A sound row of a CSV file.

    Attributes:
        video: What the column `video` names.
        span: Which part of it; None for all.
        split: `train`, `val` or `test`.
        labels: Label of each task that the row gives.
    """

    video: str
    span: Span | None
    split: str
    labels: dict[str, str]


def read_rows(reading: Reading, path: Path) -> tuple[list[str], list[Row]]:
    """Read the tasks of a CSV file, and its rows.

    Raises:
        DatasetError: The file is missing, lacks a column, or has no rows or no task.
    """
    rows = list(reading.table(path, COLUMNS))
    if not rows:
        raise DatasetError(f'{path}: no rows; expected one for each clip')
    tasks = [name for name in rows[0][1] if name not in (*COLUMNS, *OPTIONAL)]
    if not tasks or '' in tasks:
        raise DatasetError(f'{path}: expected a named column for each task beside {COLUMNS}')
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
) -> DatasetConfig:
    """Return the configuration of one's own data.

    Args:
        given: A dataset file, or the name of one that ships; empty for the labels that occur.
        name: Name of the dataset.
        where: Where the labels come from, for error messages.
        title: What a report calls it.
        labels: Labels that occur, by task.
        views: The cameras.
        unit: What holds a task's labels there, for error messages.

    Raises:
        DatasetError: The dataset file is damaged or has a task that the data have not, or a task
            has less than two labels.
    """
    if given:
        config = load_dataset_config(given)
        for task in config.tasks:
            if task.derived_from is None and task.name not in labels:
                raise DatasetError(
                    f'{where}: {unit} {task.name!r} of {given} is missing; found '
                    + ', '.join(labels)
                )
        return config
    return DatasetConfig(
        name=name,
        title=title,
        tasks=tuple(_task(where, unit, task, sorted(some)) for task, some in labels.items()),
        views=tuple(View(name=view, meaning=view or 'the one camera') for view in views),
        splits=(Split(name='file', unit='files'),),
        evaluation=PROTOCOL,
    )


def parse_row(
    reading: Reading, path: Path, row: int, cells: dict[str, str], *, lacking: bool = False
) -> ClipRow | None:
    """Make sense of a row; None, and a problem, where there is none in it.

    Args:
        reading: With its configuration.
        path: The CSV file.
        row: Number of the row's line.
        cells: Its cells.
        lacking: Whether tasks may be left empty, as long as one is not.
    """
    labels: dict[str, str] = {}
    for task in reading.config.tasks:
        if task.derived_from is not None or (lacking and not cells[task.name]):
            continue
        label = task.find(cells[task.name])
        if label is None:
            expected = 'a label of the task'
            reading.complain('unknown label', path, row, task.name, cells[task.name], expected)
            return None
        labels[task.name] = label
    if not labels:
        reading.complain('unknown label', path, row, 'tasks', '', 'a label of at least one task')
        return None
    if cells['split'] not in PARTS:
        reading.complain('bad value', path, row, 'split', cells['split'], ', '.join(PARTS))
        return None
    if not cells['video']:
        reading.complain('bad value', path, row, 'video', '', 'a file')
        return None
    span: Span | None = None
    if cells['start'] or cells['end']:
        span = reading.span(
            cells['start'],
            cells['end'],
            unit='seconds',
            file=path,
            row=row,
            fields=('start', 'end'),
            convert=finite_seconds,
        )
        if span is None:
            return None
    return ClipRow(
        video=cells['video'],
        span=span,
        split=cells['split'],
        labels=with_derived(reading.config, labels),
    )


def with_derived(config: DatasetConfig, labels: Mapping[str, str]) -> dict[str, str]:
    """Add the labels of derived tasks, and bring all into the order of the configuration."""
    found: dict[str, str] = {}
    for task in config.tasks:
        source = task.derived_from or task.name
        if source in labels:
            label = labels[source]
            found[task.name] = label if task.derived_from is None else task.derive(label)
    return found


def place_of(span: Span | None) -> str:
    """Return how a clip's name says which part it is."""
    return '' if span is None else f':{span.start!r}-{span.end!r}'


def _task(where: str, unit: str, name: str, labels: Sequence[str]) -> TaskConfig:
    if len(labels) < 2:
        raise DatasetError(
            f'{where}: {unit} {name!r} holds {labels}; expected at least two labels'
        )
    # Which label mirrors which is not said: clips of a side are not flipped.
    sides = tuple(label for label in labels if names_a_side(label))
    try:
        return TaskConfig(name=name, classes=len(labels), labels=tuple(labels), no_flip=sides)
    except ValidationError as error:
        why = error.errors()[0]['msg']
        raise DatasetError(f'{where}: {unit} {name!r}: {why}; expected plain labels') from error


def finite_seconds(text: str) -> float:
    """Read a number of seconds.

    Raises:
        ValueError: It is no finite number.
    """
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError(text)
    return seconds


# ---- One's own videos: a CSV file `video,start,end,split,TASK...`, perhaps with `view`,
# `subject`.

OPTIONS = (
    Option(name='file', default='annotations.csv', help='the CSV file, from the root'),
    CONFIG_OPTION,
)


def read_csv(reading: Reading) -> None:
    """Read the clips; videos lie beside the file or where an absolute path says.

    Start and end count seconds; both empty mean the whole video.

    Raises:
        DatasetError: The file is missing, lacks a column or has no task.
    """
    path = reading.root / reading.options['file']
    tasks, rows = read_rows(reading, path)
    reading.known = own_config(
        reading.options['config'],
        name=path.stem,
        where=str(path),
        title=path.name,
        labels={task: {cells[task] for _, cells in rows} - {''} for task in tasks},
        views=sorted({cells.get('view', '') for _, cells in rows}),
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
        reading.complain('bad value', path, row, 'view', view, f'one of {", ".join(views)}')
        return
    reading.add(
        ClipRecord(
            clip_id=f'{clip.video}{place_of(clip.span)}',
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
