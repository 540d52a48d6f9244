# SPDX-License-Identifier: Apache-2.0
"""The papers' printed figures: the schema of `config/published/*.yaml`, and look-up functions.

A table is kept as printed. Each column has the conditions under which its figures were measured,
and each row has a value per column. Nothing is derived or filled in.
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
# The names of `evaluation/metrics.py`, and a few more. `common` and `rare` are balanced there, so
# the plain accuracies of the two halves have names of their own. A change is in points, against
# the table's baseline.
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
    """A file of figures cannot be used, or a requested figure is unknown or ambiguous."""


class Column(StrictModel):
    """The conditions under which the figures of a column were measured."""

    dataset: Dataset
    metric: Metric
    split: Label | None = Field(
        default=None, description='split of the dataset; none: not printed'
    )
    task: Label = 'action'
    view: Label | None = Field(
        default=None,
        description='trained, novel (mean over the other views) or a view of the dataset; none: '
        'the table does not compare views',
    )
    order: Order = Field(default='correct', description='order of the frames at test time')
    training_percent: int = Field(
        default=100, gt=0, le=100, description='share of the training clips'
    )


class Row(StrictModel):
    """A row of a table: a method or a label, and its figures.

    The name is the registry's name of a head or an adapter if we have it, `<option>-<value>` for
    an option of STEP, or a label where the rows are labels.
    """

    name: Label
    printed: str = Field(min_length=1, description="the paper's name")
    backbone: Label | None = Field(default=None, description="none: the table's backbone")
    values: tuple[Value | None, ...] = Field(description='percent, by column; none: not printed')
    confused_with: Label | None = Field(
        default=None, description='the label that it is most often confused with'
    )
    note: str = ''


class PublishedTable(StrictModel):
    """A table of a paper."""

    number: Label = Field(description='as printed')
    title: str = Field(min_length=1)
    backbone: Label | None = Field(
        default=None,
        description='its title in `model/pretrained.py` if it is there, otherwise as printed; '
        'none: the rows name it, or have no frozen backbone',
    )
    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...] = ()
    note: str = Field(default='', description='remarks for readers')

    @model_validator(mode='after')
    def _check(self) -> 'PublishedTable':
        where = f'table {self.number}'
        if not self.rows and not self.note:
            raise ValueError(f'{where}: has no rows; give rows, or a note with the reason')
        if again := repeated(self.columns):
            raise ValueError(f'{where}: these columns are repeated: {again}')
        if same := repeated([(row.name, self.backbone_of(row)) for row in self.rows]):
            raise ValueError(f'{where}: these rows are repeated: {same}')
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
        """Return a row's backbone; None if the row has no frozen backbone."""
        return row.backbone or self.backbone


class PublishedFigures(StrictModel):
    """The content of a paper's file."""

    source: Label = Field(description='the name of the file, without suffix')
    title: str = Field(min_length=1)
    tables: tuple[PublishedTable, ...] = Field(min_length=1)

    @model_validator(mode='after')
    def _check(self) -> 'PublishedFigures':
        if again := repeated([table.number for table in self.tables]):
            raise ValueError(f'tables: {again} are repeated')
        return self

    def table(self, number: str) -> PublishedTable:
        """Return a table by its printed number.

        Raises:
            PublishedFiguresError: The paper has no table of this number.
        """
        _check_known(f'{self.source}: table', number, [table.number for table in self.tables])
        return next(table for table in self.tables if table.number == number)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of a table.

    Attributes:
        row: The row.
        backbone: The row's backbone; None if the row has no frozen backbone.
        column: The column.
        value: Percent; points if the metric is a change.
    """

    row: Row
    backbone: str | None
    column: Column
    value: float


def shipped_sources() -> tuple[str, ...]:
    """Return the names of the papers whose figures are shipped."""
    folder = share_directory() / 'config' / 'published'
    return tuple(sorted(path.stem for path in folder.glob('*.yaml')))


def load_published(path: Path) -> PublishedFigures:
    """Read a file of figures.

    Raises:
        PublishedFiguresError: The file is missing, unreadable or breaks the schema; names the
            place and the reason.
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
    """Return a table's figures for a dataset, row by row; empty if it has none for the dataset.

    Args:
        source: The paper, as for `published`.
        table: The table's printed number.
        dataset: Name of the dataset.

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
        source: The paper, as for `published`.
        table: The table's printed number.
        row: Name of the row.
        dataset: Name of the dataset.
        metric: Name of the metric.
        backbone: The row's backbone; None if the table has only one row of that name.
        split: The column's split; None if there is only one.
        task: Name of the task.
        view: The column's view; None if there is only one.
        order: Order of the frames at test time.
        training_percent: Share of the training clips.

    Returns:
        Percent, or points if the metric is a change; None if the paper prints no such figure.

    Raises:
        PublishedFiguresError: The source, table, row, dataset, metric or order is unknown, or more
            than one figure fits; the message lists the choices.
    """
    found = published(source).table(table)
    where = f'{source}: table {table}'
    if found.rows:
        _check_known(f'{where}: row', row, [each.name for each in found.rows])
    _check_known('metric', metric, get_args(Metric))
    _check_known('order', order, get_args(Order))
    fitting = [
        each
        for each in table_figures(source=source, table=table, dataset=dataset)
        if each.row.name == row
        and (backbone is None or each.backbone == backbone)
        and (each.column.metric, each.column.task) == (metric, task)
        and (split is None or each.column.split == split)
        and (view is None or each.column.view == view)
        and (each.column.order, each.column.training_percent) == (order, training_percent)
    ]
    if len(fitting) > 1:
        several = '; '.join(
            f'backbone {each.backbone}, split {each.column.split}, view {each.column.view}'
            for each in fitting
        )
        raise PublishedFiguresError(
            f'{where}: row {row!r}: {dataset} {metric} occurs more than once; '
            f'choose one of {several}'
        )
    return fitting[0].value if fitting else None


def _check_known(kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise PublishedFiguresError(
            f'{kind} {name!r} is unknown; expected one of {", ".join(dict.fromkeys(known))}'
        )
