# SPDX-License-Identifier: Apache-2.0
"""The tables of an ablation's report, with the papers' figures beside the ablation's own.

`table_grid` and `labels_grid` lay out the tables. `paper_figure` and `label_figures` find the
figures that the papers print for a cell, if the ablation runs on a dataset of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from step_ros.experiments.paper_figures import (
    Dataset,
    Figure,
    Metric,
    PublishedFiguresError,
    PublishedTable,
    published,
    table_figures,
)
from step_ros.experiments.predictions import PicturedPredictions
from step_ros.experiments.run import AblationResult
from step_ros.experiments.spec import AblationSpec, Column, Row, TableSpec
from step_ros.model.pretrained import PUBLISHED
from step_ros.reporting.markdown import MISSING, Grid, plain

# Metrics that are counts; all others are shares.
COUNTS = ('parameters', 'gflops', 'clips')

LOWER_IS_BETTER = ('to_counterpart', 'calibration_error')

# The papers' names of the views on which a run is scored.
VIEWS = {'all': None, 'trained': 'trained', 'unseen': 'novel'}

# Paper and table with figures by label, which the report's table by label follows.
BY_LABEL = ('step', 'III')


@dataclass(frozen=True, kw_only=True)
class LabelFigures:
    """The papers' figures of a label, in percent and points; None where none is printed.

    Attributes:
        top1: Accuracy of attentive probing, percent.
        top1_change: Change of the accuracy with STEP, points.
        confusion: Share of the commonest wrong prediction, percent.
        confusion_change: Change of this share with STEP, points.
    """

    top1: float | None = None
    top1_change: float | None = None
    confusion: float | None = None
    confusion_change: float | None = None


def check_published(spec: AblationSpec) -> None:
    """Check that the papers have the tables, rows and metrics that an ablation file names.

    Raises:
        PublishedFiguresError: A table, row or metric is unknown; names the place and the choices.
    """
    for name, table in spec.tables.items():
        where = f'{spec.name}: tables.{name}'
        rows = {row.name for place in table.published for row in _table(place, where).rows}
        for key, row in table.rows.items():
            if row.published is not None and row.published not in rows:
                raise PublishedFiguresError(
                    f'{where}.rows.{key}: published {row.published!r} is no row of '
                    f'{", ".join(table.published) or "any table: published is empty"}; '
                    f'choose among {", ".join(sorted(rows)) or "none"}'
                )
        for column in table.columns:
            if column.published is not None and column.published not in get_args(Metric):
                raise PublishedFiguresError(
                    f'{where}.columns: {column.title}: published {column.published!r}: '
                    f'expected one of {", ".join(get_args(Metric))}'
                )


def table_grid(result: AblationResult, name: str) -> Grid:
    """Return a table of the ablation's figures, with the papers' figures beside them.

    Shares are in percent, with one decimal. Among rows with the same training clips the best
    figure is bold, unless all are equal. No figure is bold if the frames were out of order: a high
    accuracy is no merit then.

    Args:
        result: The ablation.
        name: Name of the table.
    """
    table = result.spec.tables[name]
    columns: list[tuple[str, list[str]]] = []
    places: dict[str, set[str]] = {}
    for column in table.columns:
        values = {key: figure_of(result, name, key, column) for key in table.rows}
        bold = _best(table, column, values)
        cells = [
            f'**{cell(value, column)}**' if key in bold else cell(value, column)
            for key, value in values.items()
        ]
        columns.append((column.title, cells))
        papers = [paper_figure(result.spec, table, row, column) for row in table.rows.values()]
        if any(papers):
            cells = [f'{found[0].value:.1f}' if found else MISSING for found in papers]
            columns.append((f'{column.title}, paper', cells))
        for found in papers:
            if found is not None:
                places.setdefault(found[1], set()).add(found[0].backbone or 'none frozen')
    titles = [row.title for row in table.rows.values()]
    return Grid(
        head=('', *(title for title, _ in columns)),
        rows=tuple(zip(titles, *(cells for _, cells in columns), strict=True)),
        notes=tuple(
            f"The papers' figures: {place} ({', '.join(sorted(backbones))})."
            for place, backbones in places.items()
        ),
    )


def labels_grid(
    predictions: PicturedPredictions,
    step: PicturedPredictions | None,
    papers: dict[str, LabelFigures],
) -> Grid:
    """Return a table of the nearly symmetric labels one by one (STEP Table III).

    Args:
        predictions: Predictions of the run that the table is about.
        step: Predictions of STEP, to show the difference to STEP; None for no difference.
        papers: The papers' figures by label, for attentive probing; empty for none.
    """
    head = ['', 'top-1', 'most often taken for', 'confusion']
    if step is not None:
        head[2:2] = ['change with STEP']
        head += ['change with STEP']
    if papers:
        head += ['top-1, paper', 'change, paper', 'confusion, paper', 'change, paper']
    rows = []
    for place, label in enumerate(predictions.labels[: predictions.paired]):
        rates = predictions.confusion_kk[place].copy()
        rates[place] = 0
        worst = int(rates.argmax())
        names = (*predictions.labels, 'a label without test clips')
        cells = [
            plain(label),
            f'{100 * predictions.recall_k[place]:.1f}',
            plain(names[worst]) if rates[worst] else MISSING,
            f'{100 * rates[worst]:.1f}',
        ]
        if step is not None:
            cells[2:2] = [_change(step.recall_k[place] - predictions.recall_k[place])]
            now = step.confusion_kk[place, worst]
            cells += [_change(now - rates[worst]) if rates[worst] else MISSING]
        if papers:
            printed = papers.get(label, LabelFigures())
            cells += _optional(
                (
                    printed.top1,
                    printed.top1_change,
                    printed.confusion,
                    printed.confusion_change,
                )
            )
        rows.append(tuple(cells))
    return Grid(head=tuple(head), rows=tuple(rows))


def figure_of(result: AblationResult, table: str, row: str, column: Column) -> float | None:
    """Return a figure, as a share in [0, 1] or a count; None if the run has no such figure."""
    run = result.run(table, row)
    if column.metric == 'parameters':
        return run.parameters
    if column.metric == 'gflops':
        return result.gflops[run.spec.key]
    task = column.task or result.spec.tables[table].task
    by_task = run.metrics.get(column.view, {}).get(column.order, {})
    value = by_task.get(task, {}).get(column.metric)
    return float(value) if isinstance(value, int | float) else None


def cell(value: float | None, column: Column) -> str:
    """Return a figure as text: a share in percent, a large count in thousands or millions."""
    if value is None:
        return MISSING
    if column.metric == 'gflops':
        return f'{value:.4f}'
    if column.metric not in COUNTS:
        return f'{100 * value:.1f}'
    if value >= 1e6:
        return f'{value / 1e6:.2f} M'
    return f'{value / 1e3:.1f} k' if value >= 1e3 else f'{value:.0f}'


def share_groups(table: TableSpec) -> dict[tuple[float, tuple[str, ...]], list[str]]:
    """Return a table's rows by their training clips, as share and views."""
    groups: dict[tuple[float, tuple[str, ...]], list[str]] = {}
    for key, row in table.rows.items():
        groups.setdefault((row.share, row.views), []).append(key)
    return groups


def paper_figure(
    spec: AblationSpec, table: TableSpec, row: Row, column: Column
) -> tuple[Figure, str] | None:
    """Return the figure that the papers print for a cell, and its paper and table.

    If a paper prints several, the ablation's own backbone and split choose among them.

    Args:
        spec: The ablation.
        table: The table.
        row: The row of the cell.
        column: The column of the cell.

    Returns:
        The figure and its place, as "step-long/Table 11"; None if none or several figures fit.
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
    """Return the papers' figures by label (STEP Table III); empty for other datasets."""
    source, number = BY_LABEL
    dataset = spec.recipe.data.dataset
    if dataset not in get_args(Dataset):
        return {}
    found: dict[str, LabelFigures] = {}
    for figure in table_figures(source=source, table=number, dataset=dataset):
        so_far = found.get(figure.row.name, LabelFigures())
        found[figure.row.name] = replace(so_far, **{figure.column.metric: figure.value})
    return found


def _best(table: TableSpec, column: Column, values: dict[str, float | None]) -> set[str]:
    """Return the rows whose figure is bold."""
    if column.metric in COUNTS or column.order != 'correct':
        return set()
    best: set[str] = set()
    for keys in share_groups(table).values():
        known = {key: value for key in keys if (value := values[key]) is not None}
        if len(set(known.values())) > 1:
            choose = min if column.metric in LOWER_IS_BETTER else max
            wanted = choose(known.values())
            best |= {key for key, value in known.items() if value == wanted}
    return best


def _change(share: float) -> str:
    # Adding 0.0 turns -0.0 into 0.0.
    return f'{round(100 * float(share), 1) + 0.0:+.1f}'


def _optional(values: Sequence[float | None]) -> list[str]:
    return [MISSING if value is None else f'{value:g}' for value in values]


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
    """Return the papers' title of the ablation's backbone; None if they do not use it."""
    name = spec.recipe.backbone.name
    return next((title for title, known in PUBLISHED.items() if known.name == name), None)


def _split(spec: AblationSpec) -> str | None:
    """Return the ablation's split; some dataset readers call it a protocol."""
    options = spec.recipe.data.options
    return options.get('split') or options.get('protocol')


def _narrowed(
    figures: Sequence[Figure], values: Sequence[str | None], wanted: str | None
) -> list[Figure]:
    """Return the figures with the wanted value, or all figures if none has it.

    The fusion paper does not print the size of its backbones: `DINOv2` stands for
    `DINOv2 ViT-B/14`.
    """
    kept = [
        figure
        for figure, value in zip(figures, values, strict=True)
        if value == wanted or (value and wanted and wanted.startswith(f'{value} '))
    ]
    return kept or list(figures)
