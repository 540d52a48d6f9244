"""The papers' figures that belong beside an ablation's own, on a dataset of theirs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from step_ros.model.published import PUBLISHED
from step_ros.training.ablation import AblationSpec, Column, Row, TableSpec
from step_ros.training.published_figures import (
    Dataset,
    Figure,
    Metric,
    PublishedFiguresError,
    PublishedTable,
    published,
    table_figures,
)

# What the papers call the views on which a run is scored.
VIEWS = {'all': None, 'trained': 'trained', 'unseen': 'novel'}
# The layout of this table is that of the report's table by label.
BY_LABEL = ('step', 'III')


@dataclass(frozen=True, kw_only=True)
class LabelFigures:
    """The papers' figures of a label, in percent and points; None where none is printed.

    Attributes:
        top1: Accuracy of attentive probing.
        top1_change: What STEP adds to it.
        confusion: Share of the commonest wrong answer.
        confusion_change: What STEP adds to it.
    """

    top1: float | None = None
    top1_change: float | None = None
    confusion: float | None = None
    confusion_change: float | None = None


def check_published(spec: AblationSpec) -> None:
    """Refuse references to figures that the papers do not have, before anything is run.

    Raises:
        PublishedFiguresError: A table, row or metric is unknown; says where and what there is.
    """
    for name, table in spec.tables.items():
        where = f'{spec.name}: tables.{name}'
        rows = {row.name for place in table.published for row in _table(place, where).rows}
        for key, row in table.rows.items():
            if row.published is not None and row.published not in rows:
                raise PublishedFiguresError(
                    f'{where}.rows.{key}: published {row.published!r} is no row of '
                    f'{", ".join(table.published) or "any table: published is empty"}; '
                    f'there are {", ".join(sorted(rows)) or "none"}'
                )
        for column in table.columns:
            if column.published is not None and column.published not in get_args(Metric):
                raise PublishedFiguresError(
                    f'{where}.columns: {column.title}: published {column.published!r}: '
                    f'expected one of {", ".join(get_args(Metric))}'
                )


def paper_figure(
    spec: AblationSpec, table: TableSpec, row: Row, column: Column
) -> tuple[Figure, str] | None:
    """Return the figure that the papers print for a cell, and the place it is from.

    Where a paper prints several, it is that of the ablation's own backbone and split; still
    several or none are no figure.

    Args:
        spec: The ablation.
        table: The table.
        row: Its row.
        column: Its column.
    """
    dataset = spec.recipe.data.dataset
    if dataset not in get_args(Dataset) or row.published is None or column.published is None:
        return None
    for place in table.published:
        source, number = _parts(place)
        fitting = [
            figure
            for figure in table_figures(source=source, table=number, dataset=dataset)
            if figure.row.name == row.published
            and figure.column.metric == column.published
            and figure.column.task == (column.task or table.task)
            and figure.column.order == column.order
            and figure.column.view == VIEWS[column.view]
            and figure.column.training_percent == round(100 * row.share)
        ]
        fitting = _narrowed(fitting, [figure.backbone for figure in fitting], _backbone(spec))
        splits = [figure.column.split for figure in fitting]
        fitting = _narrowed(fitting, splits, _split(spec))
        if len(fitting) == 1:
            return fitting[0], place
    return None


def label_figures(spec: AblationSpec) -> dict[str, LabelFigures]:
    """Return what the papers print of single labels (STEP Table III); empty for other datasets."""
    source, number = BY_LABEL
    dataset = spec.recipe.data.dataset
    if dataset not in get_args(Dataset):
        return {}
    found: dict[str, LabelFigures] = {}
    for figure in table_figures(source=source, table=number, dataset=dataset):
        so_far = found.get(figure.row.name, LabelFigures())
        found[figure.row.name] = replace(so_far, **{figure.column.metric: figure.value})
    return found


def _parts(place: str) -> tuple[str, str]:
    source, _, number = place.partition('/')
    return source, number.removeprefix('Table ').strip()


def _table(place: str, where: str) -> PublishedTable:
    source, number = _parts(place)
    try:
        return published(source).table(number)
    except PublishedFiguresError as error:
        raise PublishedFiguresError(f'{where}: published {place!r}: {error}') from error


def _backbone(spec: AblationSpec) -> str | None:
    """Return the papers' title of the ablation's backbone."""
    name = spec.recipe.backbone.name
    return next((title for title, known in PUBLISHED.items() if known.name == name), None)


def _split(spec: AblationSpec) -> str | None:
    """Return the ablation's split, which some readers call a protocol."""
    options = spec.recipe.data.options
    return options.get('split') or options.get('protocol')


def _narrowed(
    figures: Sequence[Figure], values: Sequence[str | None], wanted: str | None
) -> list[Figure]:
    """Keep the figures of the wanted value, where there are some.

    The fusion paper does not print sizes of its backbones: `DINOv2` stands for `DINOv2 ViT-B/14`.
    """
    kept = [
        figure
        for figure, value in zip(figures, values, strict=True)
        if value == wanted or (value and wanted and wanted.startswith(f'{value} '))
    ]
    return kept or list(figures)
