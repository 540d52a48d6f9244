"""The rows of a replay's tables: which figures, what they are called, how they are written."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from step_ros.reporting.markdown import MISSING
from step_ros.training.segment_metrics import OVERLAPS

Cell = Callable[[Any], str]


def percent(value: Any) -> str:
    """Write a share in percent."""
    return f'{100 * value:.1f}'


def _hundredths(value: Any) -> str:
    return f'{value:.2f}'


# Title of a row, where its figure is in `score_task`, and how it is written.
ROWS: tuple[tuple[str, tuple[str, ...], Cell], ...] = (
    ('hypotheses with a label at the newest frame', ('judged',), str),
    ('accuracy, %', ('newest', 'top1'), percent),
    ('balanced accuracy, %', ('newest', 'balanced'), percent),
    ('symmetric accuracy, %', ('newest', 'symmetric_top1'), percent),
    ('within its pair, %', ('newest', 'within_pair'), percent),
    ('taken for the counterpart, %', ('newest', 'to_counterpart'), percent),
    ('settled windows', ('settled',), str),
    ('accuracy on settled windows, %', ('settled_windows', 'top1'), percent),
    (
        'symmetric accuracy on settled windows, %',
        ('settled_windows', 'symmetric_top1'),
        percent,
    ),
    *(
        (f'segmental F1@{overlap}, %', ('segments', f'f1_{overlap}'), percent)
        for overlap in OVERLAPS
    ),
    ('edit score, %', ('segments', 'edit'), percent),
    ('actions', ('events', 'actions'), str),
    ('told by an event, %', ('events', 'told_share'), percent),
    ('detection delay, median, s', ('events', 'delay_s', 'p50'), _hundredths),
    ('detection delay, 95th percentile, s', ('events', 'delay_s', 'p95'), _hundredths),
    ('false events a minute', ('events', 'false_per_minute'), _hundredths),
    ('order evidence of right answers, median', ('order_evidence', 'right', 'p50'), _hundredths),
    ('order evidence of wrong answers, median', ('order_evidence', 'wrong', 'p50'), _hundredths),
    (
        'order evidence of answers with the counterpart, median',
        ('order_evidence', 'to_counterpart', 'p50'),
        _hundredths,
    ),
)
# Of a single recording.
SHORT = (
    ('accuracy, %', ('newest', 'top1'), percent),
    ('F1@50, %', ('segments', 'f1_50'), percent),
    ('edit, %', ('segments', 'edit'), percent),
    ('told', ('events', 'told'), str),
    ('of actions', ('events', 'actions'), str),
    ('delay, s', ('events', 'delay_s', 'p50'), _hundredths),
    ('false a minute', ('events', 'false_per_minute'), _hundredths),
)


def score_rows(scores: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Lay out what `score_task` said about several bundles, a column for each.

    Returns:
        Rows with their titles; those in which no bundle has a figure are left out.
    """
    rows = []
    for title, path, written in ROWS:
        cells = [figure(found, path, written) for found in scores]
        if any(cell != MISSING for cell in cells):
            rows.append((title, *cells))
    return rows


def figure(scores: Mapping[str, Any], path: Sequence[str], written: Cell) -> str:
    """Write the figure that stands under some keys; a dash where there is none."""
    value: Any = scores
    for key in path:
        value = None if value is None else value.get(key)
    return MISSING if value is None else written(value)
