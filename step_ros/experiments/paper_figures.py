"""The papers' printed figures: what `config/published/*.yaml` may say, and how to ask for them.

A table is kept as it is printed: columns, each with the conditions that its figures were measured
under, and rows of values in the same order. Nothing is derived or filled in.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from step_ros.datasets.schema import Label, repeated
from step_ros.resources import share_directory
from step_ros.schema import StrictModel

Dataset = Literal['hri30', 'ikea-asm', 'drive-and-act', 'ntu120', 'ssv2']
# The names of `evaluation/metrics.py`. `common` and `rare` are balanced there, so the halves'
# plain accuracies have names of their own; a change is in points, against the table's baseline.
Metric = Literal[
    'top1',
    'top5',
    'balanced',
    'symmetric_top1',
    'other_top1',
    'common',
    'common_top1',
    'rare',
    'rare_top1',
    'confusion',
    'top1_change',
    'confusion_change',
]
CHANGES: frozenset[Metric] = frozenset({'top1_change', 'confusion_change'})
Order = Literal['correct', 'reversed', 'shuffled']
Value = Annotated[float, Field(strict=True)]


class PublishedFiguresError(ValueError):
    """A file of figures cannot be used, or what was asked for is unknown or ambiguous."""


class Column(StrictModel):
    """What a table's figures were measured on, and how."""

    dataset: Dataset
    metric: Metric
    split: Label | None = Field(default=None, description="the dataset's; none: not printed")
    task: Label = 'action'
    view: Label | None = Field(
        default=None,
        description='trained, novel (mean over the others) or a view of the dataset; none: the '
        'table does not compare views',
    )
    order: Order = Field(default='correct', description='of the frames at test time')
    training_percent: int = Field(default=100, gt=0, le=100, description='of the training clips')


class Row(StrictModel):
    """What is compared down a table, and its figures.

    The name is that of the head or the adapter where it is one of ours, `<option>-<value>` for an
    option of STEP, a label where the rows are labels.
    """

    name: Label
    printed: str = Field(min_length=1, description="the paper's name")
    backbone: Label | None = Field(default=None, description="where it is not the table's")
    values: tuple[Value | None, ...] = Field(description='percent, by column; none: not printed')
    confused_with: Label | None = Field(
        default=None, description='the label that it is most often taken for'
    )
    note: str = ''


class PublishedTable(StrictModel):
    """A table of a paper."""

    number: Label = Field(description='as printed')
    title: str = Field(min_length=1)
    backbone: Label | None = Field(
        default=None,
        description='title in `model/pretrained.py` where it is one of those, else as printed; '
        'none: rows say it, or have none that is frozen',
    )
    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...] = ()
    note: str = Field(default='', description='what to know when reading or comparing')

    @model_validator(mode='after')
    def _check(self) -> 'PublishedTable':
        where = f'table {self.number}'
        if not self.rows and not self.note:
            raise ValueError(f'{where}: has no rows; give some, or a note that says why')
        if again := repeated(self.columns):
            raise ValueError(f'{where}: these columns stand there twice: {again}')
        if same := repeated([(row.name, self.backbone_of(row)) for row in self.rows]):
            raise ValueError(f'{where}: these rows stand there twice: {same}')
        for row in self.rows:
            if len(row.values) != len(self.columns):
                raise ValueError(
                    f'{where}: row {row.name!r} has {len(row.values)} values for '
                    f'{len(self.columns)} columns'
                )
            for column, value in zip(self.columns, row.values, strict=True):
                least = -100 if column.metric in CHANGES else 0
                if value is not None and not least <= value <= 100:
                    raise ValueError(
                        f'{where}: row {row.name!r}: {column.dataset} {column.metric} is {value}; '
                        f'expected percent, from {least} to 100'
                    )
        return self

    def backbone_of(self, row: Row) -> str | None:
        """Return a row's backbone; None where it has none that is frozen."""
        return row.backbone or self.backbone


class PublishedFigures(StrictModel):
    """Everything in a paper's file."""

    source: Label = Field(description="the file's name")
    title: str = Field(min_length=1)
    tables: tuple[PublishedTable, ...] = Field(min_length=1)

    @model_validator(mode='after')
    def _check(self) -> 'PublishedFigures':
        if again := repeated([table.number for table in self.tables]):
            raise ValueError(f'tables: {again} stand there twice')
        return self

    def table(self, number: str) -> PublishedTable:
        """Return a table by its printed number.

        Raises:
            PublishedFiguresError: There is none of that number.
        """
        _check_known(f'{self.source}: table', number, [table.number for table in self.tables])
        return next(table for table in self.tables if table.number == number)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A cell.

    Attributes:
        row: Its row.
        backbone: The row's backbone; None where it has none that is frozen.
        column: Its column.
        value: Percent; points where the metric is a change.
    """

    row: Row
    backbone: str | None
    column: Column
    value: float


def shipped_sources() -> tuple[str, ...]:
    """List the papers whose figures ship."""
    folder = share_directory() / 'config' / 'published'
    return tuple(sorted(path.stem for path in folder.glob('*.yaml')))


def load_published(path: Path) -> PublishedFigures:
    """Read a file of figures.

    Raises:
        PublishedFiguresError: It is missing, unreadable or breaks the schema; says where and why.
    """
    try:
        figures = PublishedFigures.model_validate(yaml.safe_load(path.read_text(encoding='utf-8')))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PublishedFiguresError(f'{path}: not readable: {error}') from error
    except ValidationError as error:
        first = error.errors()[0]
        field = '.'.join(str(part) for part in first['loc']) or 'file'
        found = '' if first['type'] == 'value_error' else f'; found {first["input"]!r}'
        raise PublishedFiguresError(f'{path}: {field}: {first["msg"]}{found}') from error
    if figures.source != path.stem:
        raise PublishedFiguresError(
            f"{path}: source: expected the file's name, {path.stem!r}; found {figures.source!r}"
        )
    return figures


@cache
def published(source: str) -> PublishedFigures:
    """Return a paper's figures.

    Args:
        source: `step-long`, `step` or `fusion`.

    Raises:
        PublishedFiguresError: There is no such paper, or its file cannot be used.
    """
    _check_known('source', source, shipped_sources())
    return load_published(share_directory() / 'config' / 'published' / f'{source}.yaml')


def table_figures(*, source: str, table: str, dataset: str) -> tuple[Figure, ...]:
    """Return all figures of a table for a dataset, by row; empty if it is not on that dataset.

    Args:
        source: As `published` takes it.
        table: Its printed number.
        dataset: Its name.

    Raises:
        PublishedFiguresError: The source, the table or the dataset is unknown.
    """
    found = published(source).table(table)
    _check_known('dataset', dataset, get_args(Dataset))
    return tuple(
        Figure(row=row, backbone=found.backbone_of(row), column=column, value=value)
        for row in found.rows
        for column, value in zip(found.columns, row.values, strict=True)
        if column.dataset == dataset and value is not None
    )


def figure(
    *,
    source: str,
    table: str,
    row: str,
    dataset: str,
    metric: str,
    backbone: str | None = None,
    split: str | None = None,
    task: str = 'action',
    view: str | None = None,
    order: str = 'correct',
    training_percent: int = 100,
) -> float | None:
    """Return a printed figure.

    Args:
        source: As `published` takes it.
        table: Its printed number.
        row: Name of the row.
        dataset: Name of the dataset.
        metric: A metric's name.
        backbone: The row's; None if the table has only one row of that name.
        split: The column's; None if there is only one.
        task: What is decided.
        view: The column's; None if there is only one.
        order: Order of the frames at test time.
        training_percent: Share of the training clips.

    Returns:
        Percent; points where the metric is a change; None where the paper prints none.

    Raises:
        PublishedFiguresError: The source, table, row, dataset, metric or order is unknown, or more
            than one cell fits; lists what there is.
    """
    found = published(source).table(table)
    where = f'{source}: table {table}'
    if found.rows:
        _check_known(f'{where}: row', row, [some.name for some in found.rows])
    _check_known('metric', metric, get_args(Metric))
    _check_known('order', order, get_args(Order))
    fitting = [
        some
        for some in table_figures(source=source, table=table, dataset=dataset)
        if some.row.name == row
        and (backbone is None or some.backbone == backbone)
        and (some.column.metric, some.column.task) == (metric, task)
        and (split is None or some.column.split == split)
        and (view is None or some.column.view == view)
        and (some.column.order, some.column.training_percent) == (order, training_percent)
    ]
    if len(fitting) > 1:
        several = '; '.join(
            f'backbone {some.backbone}, split {some.column.split}, view {some.column.view}'
            for some in fitting
        )
        raise PublishedFiguresError(
            f'{where}: row {row!r}: {dataset} {metric} stands there more than once; '
            f'choose one of {several}'
        )
    return fitting[0].value if fitting else None


def _check_known(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise PublishedFiguresError(
            f'{what} {name!r} is unknown; expected one of {", ".join(dict.fromkeys(known))}'
        )
