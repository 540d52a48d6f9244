"""How many examples it takes: a bundle is taught the tabletop's lessons from 1 to 20 of each."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from step_ros.fewshot.task import example_metrics, layer_of, learn_task, source_heads
from step_ros.fewshot.unseen_actions import (
    LABELS,
    DrawnWindows,
    Lessons,
    draw_unseen_clips,
    encode_unseen_clips,
    unseen_features,
)
from step_ros.model.bundle import Bundle
from step_ros.model.heads.base import Head
from step_ros.model.heads.registry import create_head
from step_ros.model.tokens import TokenKind, select_tokens
from step_ros.reporting.progress import track
from step_ros.tabletop.unseen_actions import LESSON_COUNTERPARTS, LESSON_TASK, UNSEEN_ACTIONS
from step_ros.training.config import HeadOptimisation
from step_ros.training.fit import FitRun, fit

COUNTS = (1, 2, 3, 5, 10, 20)

# Examples of each label that draws are made from.
POOL = 24

# Heads from scratch: optimiser steps, and how many draws at which counts, for they take longer.
STEPS = 200

BATCH = 32

SCRATCH: Mapping[str, tuple[str, int, tuple[int, ...]]] = {
    'attentive probing from scratch': ('attentive', 2, COUNTS),
    'STEP from scratch': ('step', 1, (5, 20)),
}

TAUGHT, REVERSED = 'STEP, taught', 'STEP, taught, pairs reversed'


@dataclass(frozen=True, kw_only=True)
class Point:
    """One task learned and scored.

    Attributes:
        method: How it was learned.
        examples: Examples of each label.
        draw: Number of the random choice of examples.
        top1: Share of test clips answered correctly.
        symmetric_top1: The same over clips of labels with a counterpart.
        seconds: CPU time of learning, without encoding.
    """

    method: str
    examples: int
    draw: int
    top1: float
    symmetric_top1: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Everything that was measured.

    Attributes:
        bundle: What was taught.
        points: All results.
        test_clips: How many they are scored on.
        encode_seconds: CPU time of encoding one example, and of what the heads see in it.
    """

    bundle: str
    points: tuple[Point, ...]
    test_clips: int
    encode_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return all figures for JSON."""
        return asdict(self)


def measure_curve(
    bundle: Bundle,
    *,
    counts: Sequence[int] = COUNTS,
    pool: int = POOL,
    draws: int = 5,
    test_clips: int = 15,
    scratch: bool = True,
) -> Curve:
    """Teach a bundle the lessons from few and from more examples, several times each.

    All clips are of one camera; each is of a scene of its own, and test clips share no texture and
    no speed with the examples.

    Args:
        bundle: What to teach.
        counts: Examples of each label.
        pool: Examples of each label that draws are made from.
        draws: Random choices of examples for each count.
        test_clips: Test clips of each label.
        scratch: Whether heads are trained from scratch, too, for comparison.

    Raises:
        ValueError: The pool is smaller than a count.
    """
    if max(counts) > pool:
        raise ValueError(f'counts up to {max(counts)} want a pool as large, not {pool}')
    # Attentive probing takes CLS tokens as well; afterwards the encoder gives what it gave.
    backbone = bundle.model.backbone
    given = backbone.consumed
    kind: TokenKind = 'all' if scratch and backbone.has_cls else given
    backbone.give(kind)
    try:
        started = time.process_time()
        train = encode_unseen_clips(bundle, 'train', pool)
        encoding = time.process_time() - started
        test = encode_unseen_clips(bundle, 'test', test_clips)
    finally:
        backbone.give(given)
    sources = source_heads(_heads(bundle), bundle.spec.tasks)
    started = time.process_time()
    features = unseen_features(sources, train, kind, backward=True)
    encoding += time.process_time() - started
    judged = unseen_features(sources, test, kind, backward=False)
    points = []
    jobs = [(count, draw) for count in counts for draw in range(draws)]
    for count, draw in track(jobs, 'teach'):
        chosen = draw_unseen_clips(pool, count, draw)
        for method in (TAUGHT, REVERSED):
            started = time.process_time()
            taught = learn_task(
                sources,
                features.of(chosen),
                {number: train.targets[number] for number in chosen},
                labels=LABELS,
                counterparts=LESSON_COUNTERPARTS,
                reverse_pairs=method == REVERSED,
            )
            seconds = time.process_time() - started
            logits_wk = layer_of(taught.head)(judged.forward[taught.source])
            points.append(_point(method, count, draw, logits_wk, test, seconds))
    for method, (name, most, at) in SCRATCH.items() if kind == 'all' else ():
        for count in (count for count in counts if count in at):
            for draw in range(min(most, draws)):
                started = time.process_time()
                head = _from_scratch(
                    name, bundle, train, kind, draw_unseen_clips(pool, count, draw)
                )
                seconds = time.process_time() - started
                logits_wk = _answers(head, test, kind)
                points.append(_point(method, count, draw, logits_wk, test, seconds))
    return Curve(
        bundle=bundle.model_id,
        points=tuple(points),
        test_clips=test_clips * len(LABELS),
        encode_seconds=round(encoding / (pool * len(LABELS)), 3),
    )


def _from_scratch(
    name: str, bundle: Bundle, lessons: Lessons, kind: TokenKind, chosen: Sequence[int]
) -> Head:
    """Train a head as the papers do, but for a number of steps, whatever the examples."""
    options = {'attention_heads': bundle.spec.heads.options.get('attention_heads')}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = create_head(
            name,
            width=bundle.model.backbone.width,
            frames=bundle.spec.frames,
            tokens=bundle.model.backbone.tokens,
            classes=len(LABELS),
            **options,
        )
    run = FitRun(heads={LESSON_TASK: head}, how=HeadOptimisation(epochs=1, batch=BATCH))
    fit({name: run}, DrawnWindows(lessons, chosen, kind, length=STEPS * BATCH), seed=0)
    return head


@torch.inference_mode()
def _answers(head: Head, lessons: Lessons, kind: TokenKind) -> Tensor:
    x_wtnd = select_tokens(lessons.x_wtnd, given=kind, wanted=head.consumes)
    return torch.cat([head(x_btnd.float()) for x_btnd in torch.split(x_wtnd, BATCH)])


def _point(
    method: str, count: int, draw: int, logits_wk: Tensor, test: Lessons, seconds: float
) -> Point:
    found = example_metrics(logits_wk, test.example_w, test.targets, LABELS, LESSON_COUNTERPARTS)
    return Point(
        method=method,
        examples=count,
        draw=draw,
        top1=found['top1'],
        symmetric_top1=found['symmetric_top1'],
        seconds=round(seconds, 2),
    )


def _heads(bundle: Bundle) -> dict[str, Head]:
    return {task: head for task, head in bundle.model.heads.items() if isinstance(head, Head)}


# ---- The curve of accuracy against examples: as a picture, and as a table in a document.

MARKS = re.compile(r'(<!-- curve -->\n).*?(<!-- end -->)', re.DOTALL)

_PANELS: tuple[tuple[str, Callable[[Point], float], float], ...] = (
    ('all lessons', lambda point: point.top1, 1 / len(UNSEEN_ACTIONS)),
    ('nearly symmetric lessons', lambda point: point.symmetric_top1, 1 / len(UNSEEN_ACTIONS)),
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
    figure.suptitle(f'{len(UNSEEN_ACTIONS)} unseen actions taught to {curve.bundle}')
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
        f'Model {curve.bundle}; {len(UNSEEN_ACTIONS)} labels, {symmetric} of them in nearly '
        f'symmetric pairs; {curve.test_clips} test clips; in brackets the least and the greatest '
        f'of several draws. Encoding took {curve.encode_seconds:.2f} s of CPU for each example.',
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
