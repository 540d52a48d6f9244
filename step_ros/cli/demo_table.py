"""The live table of the demo."""

from collections.abc import Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from step_ros.training.truth import Observation, Truth, settled_accuracy


def latency_percentiles(observations: Sequence[Observation]) -> dict[str, float]:
    """Return p50, p95 and p99 of the latency from camera stamp to arrival, in milliseconds."""
    values = [seen.latency_ms for seen in observations]
    return {
        f'p{share}': round(float(np.percentile(values, share)), 1) if values else float('nan')
        for share in (50, 95, 99)
    }


def frames_per_second(arrivals_ns: Sequence[int]) -> float:
    """Return the rate of recent frames; 0 while there are fewer than two."""
    if len(arrivals_ns) < 2 or arrivals_ns[-1] <= arrivals_ns[0]:
        return 0.0
    return (len(arrivals_ns) - 1) / ((arrivals_ns[-1] - arrivals_ns[0]) / 1e9)


def live_table(
    observations: Sequence[Observation],
    truth: Truth,
    *,
    arrivals_ns: Sequence[int],
    seconds: float,
    total_seconds: float,
) -> RenderableType:
    """Draw the newest hypothesis beside the truth, with rates and latency below."""
    table = Table(title='step_ros: what is happening on the table', title_justify='left')
    for column in ('task', 'label', 'score', 'counterpart', 'order evidence', 'truth'):
        table.add_column(column, min_width=len(column), no_wrap=True)
    if not observations:
        table.add_row('...', 'the first window fills', '', '', '', '')
        return table
    newest = observations[-1]
    for task, answer in newest.answers.items():
        true = truth.at(task, newest.stamp_ns)
        style = '' if not true else 'green' if true == answer.label else 'red'
        other = (
            f'{answer.counterpart} {answer.counterpart_score:.2f}' if answer.counterpart else ''
        )
        table.add_row(
            task,
            Text(answer.label, style=style),
            f'{answer.score:.2f}',
            other,
            f'{answer.order_evidence:.2f}',
            true,
        )
    latency = latency_percentiles(observations[-200:])
    accuracy = settled_accuracy(observations, truth)
    text = (
        f'{seconds:.0f} of {total_seconds:.0f} s   '
        f'{frames_per_second(arrivals_ns):.1f} frames/s   {len(observations)} hypotheses   '
        f'latency {latency["p50"]:.0f} / {latency["p95"]:.0f} / {latency["p99"]:.0f} ms '
        '(p50/p95/p99)'
    )
    lines = [Text(text, style='dim')]
    if accuracy:
        parts = ', '.join(f'{task} {share:.0%}' for task, share in accuracy.items())
        lines.append(Text(f'right on settled windows: {parts}', style='dim'))
    return Group(table, *lines)
