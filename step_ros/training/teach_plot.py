"""The curve of accuracy against examples: as a picture, and as a table in a document."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from step_ros.data.tabletop_lessons import LESSON_COUNTERPARTS, LESSONS
from step_ros.training.teach_curve import Curve, Point

MARKS = re.compile(r'(<!-- curve -->\n).*?(<!-- end -->)', re.DOTALL)
_PANELS: tuple[tuple[str, Callable[[Point], float], float], ...] = (
    ('all lessons', lambda point: point.top1, 1 / len(LESSONS)),
    ('nearly symmetric lessons', lambda point: point.symmetric_top1, 1 / len(LESSONS)),
)


def plot_curve(curve: Curve, path: Path) -> None:
    """Draw mean, least and greatest accuracy of each method.

    Args:
        curve: What was measured.
        path: Image file to write; its folder is made.
    """
    figure = Figure(figsize=(11, 4.5), layout='constrained')
    axes = figure.subplots(1, len(_PANELS), sharey=True)
    counts = sorted({point.examples for point in curve.points})
    for panel, (title, value, chance) in zip(axes, _PANELS, strict=True):
        for place, method in enumerate(_methods(curve)):
            at = [n for n in counts if _values(curve, method, n, value)]
            found = [_values(curve, method, n, value) for n in at]
            panel.plot(
                at,
                [float(np.mean(some)) for some in found],
                marker='osD^v'[place % 5],
                linewidth=3 if place == 0 else 1.5,
                label=method,
            )
            panel.fill_between(
                at, [min(some) for some in found], [max(some) for some in found], alpha=0.15
            )
        panel.axhline(chance, color='grey', linestyle=':', label='chance')
        panel.set_xscale('log')
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.minorticks_off()
        panel.set_ylim(0, 1)
        panel.set_xlabel('examples of each label')
        panel.set_title(title)
        panel.grid(alpha=0.3)
    axes[0].set_ylabel(f'accuracy on {curve.test_clips} test clips')
    axes[1].legend(loc='lower right')
    figure.suptitle(f'{len(LESSONS)} unseen actions taught to {curve.bundle}')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def curve_table(curve: Curve) -> str:
    """Return the figures as Markdown: mean, and the least and greatest of several draws."""
    counts = sorted({point.examples for point in curve.points})
    lines = []
    for title, value, _ in _PANELS:
        lines += [
            f'Accuracy on {title}, by examples of each label:',
            '',
            '| | ' + ' | '.join(str(count) for count in counts) + ' |',
            '|---' * (len(counts) + 1) + '|',
        ]
        for method in _methods(curve):
            cells = [_cell(_values(curve, method, count, value)) for count in counts]
            lines.append(f'| {method} | ' + ' | '.join(cells) + ' |')
        lines.append('')
    lines += [
        'Seconds of CPU for learning, without encoding:',
        '',
        '| | ' + ' | '.join(str(count) for count in counts) + ' |',
        '|---' * (len(counts) + 1) + '|',
    ]
    for method in _methods(curve):
        found = [_values(curve, method, count, lambda point: point.seconds) for count in counts]
        cells = [f'{np.mean(some):.1f}' if some else '' for some in found]
        lines.append(f'| {method} | ' + ' | '.join(cells) + ' |')
    symmetric = len(LESSON_COUNTERPARTS)
    lines += [
        '',
        f'Model {curve.bundle}; {len(LESSONS)} labels, {symmetric} of them in nearly symmetric '
        f'pairs; {curve.test_clips} test clips; in brackets the least and the greatest of several '
        f'draws. Encoding took {curve.encode_seconds:.2f} s of CPU for each example.',
    ]
    return '\n'.join(lines)


def put_table(document: Path, table: str) -> None:
    """Replace what stands between the marks of a document.

    Raises:
        ValueError: It has no marks.
        FileNotFoundError: There is no such document.
    """
    text = document.read_text(encoding='utf-8')
    text, count = MARKS.subn(lambda found: f'{found[1]}{table}\n{found[2]}', text)
    if count != 1:
        raise ValueError(f'{document}: expected one <!-- curve --> and <!-- end --> after it')
    document.write_text(text, encoding='utf-8')


def _methods(curve: Curve) -> list[str]:
    return list(dict.fromkeys(point.method for point in curve.points))


def _values(
    curve: Curve, method: str, examples: int, value: Callable[[Point], float]
) -> list[float]:
    return [
        value(point)
        for point in curve.points
        if (point.method, point.examples) == (method, examples)
    ]


def _cell(values: list[float]) -> str:
    if not values:
        return ''
    mean = f'{np.mean(values):.2f}'
    return mean if len(values) == 1 else f'{mean} ({min(values):.2f}-{max(values):.2f})'
