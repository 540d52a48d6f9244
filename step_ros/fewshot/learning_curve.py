# SPDX-License-Identifier: Apache-2.0
"""Learning curve: accuracy on the tabletop's unseen actions against examples per label.

`measure_curve` learns the unseen actions from 1 to 20 examples of each label and scores the
results on test clips. `plot_curve` draws the curve, `curve_table` writes it as Markdown, and
`put_table` puts that table into a document.
"""

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
    UnseenClips,
    draw_unseen_clips,
    encode_unseen_clips,
    unseen_features,
)
from step_ros.model.bundle import Bundle
from step_ros.model.heads.base import Head
from step_ros.model.heads.registry import create_head
from step_ros.model.tokens import TokenKind, select_tokens
from step_ros.reporting.markdown import figures_table
from step_ros.reporting.progress import track
from step_ros.tabletop.unseen_actions import UNSEEN_ACTIONS, UNSEEN_COUNTERPARTS, UNSEEN_TASK
from step_ros.training.config import HeadOptimisation
from step_ros.training.fit import FitRun, fit

COUNTS = (1, 2, 3, 5, 10, 20)

# Examples of each label that the draws choose from.
POOL = 24

# Training of a head from scratch: optimiser steps, and samples in a step.
STEPS = 200
BATCH = 32

FEWSHOT, FEWSHOT_REVERSED = 'STEP, few-shot', 'STEP, few-shot, pairs reversed'

# Heads that are trained from scratch, by method: the head, the most draws, and the counts at which
# it is trained. Training takes long, so STEP is trained once at two counts only.
SCRATCH: Mapping[str, tuple[str, int, tuple[int, ...]]] = {
    'attentive probing from scratch': ('attentive', 2, COUNTS),
    'STEP from scratch': ('step', 1, (5, 20)),
}

# The marks around the table in a document.
MARKS = re.compile(r'(<!-- curve -->\n).*?(<!-- end -->)', re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Point:
    """The task, learned once and scored.

    Attributes:
        method: How the task was learned.
        examples: Examples of each label.
        draw: Number of the random choice of examples.
        top1: Share of test clips with a correct label.
        symmetric_top1: The same share of the clips whose label has a counterpart.
        seconds: CPU seconds of learning, without encoding.
    """

    method: str
    examples: int
    draw: int
    top1: float
    symmetric_top1: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A measured learning curve.

    Attributes:
        bundle: Model ID of the bundle that learned the unseen actions.
        points: All results.
        test_clips: Number of test clips.
        encode_seconds: CPU seconds of encoding one example and computing its features.
    """

    bundle: str
    points: tuple[Point, ...]
    test_clips: int
    encode_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return all values for JSON."""
        return asdict(self)


_PANELS: tuple[tuple[str, Callable[[Point], float], float], ...] = (
    ('all unseen actions', lambda point: point.top1, 1 / len(UNSEEN_ACTIONS)),
    (
        'nearly symmetric unseen actions',
        lambda point: point.symmetric_top1,
        1 / len(UNSEEN_ACTIONS),
    ),
)


def measure_curve(
    bundle: Bundle,
    *,
    counts: Sequence[int] = COUNTS,
    pool: int = POOL,
    draws: int = 5,
    test_clips: int = 15,
    scratch: bool = True,
) -> Curve:
    """Learn the unseen actions from few and from more examples, several times each, and score.

    All clips are filmed by one camera, each in its own scene. Test clips share no texture and no
    speed with the examples.

    Args:
        bundle: The bundle that learns the unseen actions; it is not changed.
        counts: Numbers of examples of each label.
        pool: Examples of each label that the draws choose from.
        draws: Random choices of examples for each count.
        test_clips: Test clips of each label.
        scratch: Whether to train heads from scratch, too, for comparison.

    Raises:
        ValueError: The pool is smaller than a count.
    """
    if max(counts) > pool:
        raise ValueError(f'pool={pool}: expected at least {max(counts)}, the largest count')
    # Attentive probing consumes CLS tokens as well. The encoder's setting is restored afterwards.
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
    test_features = unseen_features(sources, test, kind, backward=False)
    points = []
    jobs = [(count, draw) for count in counts for draw in range(draws)]
    for count, draw in track(jobs, 'learn'):
        chosen = draw_unseen_clips(pool, count, draw)
        for method in (FEWSHOT, FEWSHOT_REVERSED):
            started = time.process_time()
            learned = learn_task(
                sources,
                features.of(chosen),
                {clip: train.targets[clip] for clip in chosen},
                labels=LABELS,
                counterparts=UNSEEN_COUNTERPARTS,
                reverse_pairs=method == FEWSHOT_REVERSED,
            )
            seconds = time.process_time() - started
            logits_wk = layer_of(learned.head)(test_features.forward[learned.source])
            points.append(_point(method, count, draw, logits_wk, test, seconds))
    for method, (name, most_draws, trained_counts) in SCRATCH.items() if kind == 'all' else ():
        for count in (count for count in counts if count in trained_counts):
            for draw in range(min(most_draws, draws)):
                started = time.process_time()
                chosen = draw_unseen_clips(pool, count, draw)
                head = _train_from_scratch(name, bundle, train, kind, chosen)
                seconds = time.process_time() - started
                logits_wk = _predict(head, test, kind)
                points.append(_point(method, count, draw, logits_wk, test, seconds))
    return Curve(
        bundle=bundle.model_id,
        points=tuple(points),
        test_clips=test_clips * len(LABELS),
        encode_seconds=round(encoding / (pool * len(LABELS)), 3),
    )


def plot_curve(curve: Curve, path: Path) -> None:
    """Draw the mean, the least and the greatest accuracy of each method.

    Args:
        curve: The measured curve.
        path: Image file to write; its folder is made if it is missing.
    """
    figure = Figure(figsize=(11, 4.5), layout='constrained')
    axes = figure.subplots(1, len(_PANELS), sharey=True)
    counts = sorted({point.examples for point in curve.points})
    for panel, (title, value, chance) in zip(axes, _PANELS, strict=True):
        for place, method in enumerate(_methods(curve)):
            measured = [count for count in counts if _values(curve, method, count, value)]
            found = [_values(curve, method, count, value) for count in measured]
            panel.plot(
                measured,
                [float(np.mean(values)) for values in found],
                marker='osD^v'[place % 5],
                linewidth=3 if place == 0 else 1.5,
                label=method,
            )
            panel.fill_between(
                measured,
                [min(values) for values in found],
                [max(values) for values in found],
                alpha=0.15,
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
    figure.suptitle(f'{len(UNSEEN_ACTIONS)} unseen actions, learned by {curve.bundle}')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def curve_table(curve: Curve) -> str:
    """Return the curve as Markdown tables: the mean, the least and the greatest of the draws."""
    blocks = []
    for title, value, _ in _PANELS:
        blocks += [
            f'Accuracy on {title}, by examples of each label:',
            _table(curve, value, _mean_and_range),
        ]
    blocks += [
        'Seconds of CPU for learning, without encoding:',
        _table(curve, lambda point: point.seconds, lambda values: f'{np.mean(values):.1f}'),
        f'Model {curve.bundle}; {len(UNSEEN_ACTIONS)} labels, {len(UNSEEN_COUNTERPARTS)} of them '
        f'in nearly symmetric pairs; {curve.test_clips} test clips; in brackets the least and the '
        f'greatest of several draws. Encoding took {curve.encode_seconds:.2f} s of CPU for each '
        'example.',
    ]
    return '\n\n'.join(blocks)


def put_table(document: Path, table: str) -> None:
    """Replace the text between the marks of a document by a table.

    Raises:
        ValueError: The document does not have exactly one pair of marks.
        FileNotFoundError: The document does not exist.
    """
    text = document.read_text(encoding='utf-8')
    text, count = MARKS.subn(lambda found: f'{found[1]}{table}\n{found[2]}', text)
    if count != 1:
        raise ValueError(
            f'{document}: expected one <!-- curve --> and an <!-- end --> after it; add them'
        )
    document.write_text(text, encoding='utf-8')


def _train_from_scratch(
    name: str, bundle: Bundle, clips: UnseenClips, kind: TokenKind, chosen: Sequence[int]
) -> Head:
    """Train a head as the papers do, but for a fixed number of steps."""
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
    run = FitRun(heads={UNSEEN_TASK: head}, how=HeadOptimisation(epochs=1, batch=BATCH))
    fit({name: run}, DrawnWindows(clips, chosen, kind, length=STEPS * BATCH), seed=0)
    return head


@torch.inference_mode()
def _predict(head: Head, clips: UnseenClips, kind: TokenKind) -> Tensor:
    """Return a head's logits of all windows, `[w, k]`."""
    x_wtnd = select_tokens(clips.x_wtnd, given=kind, wanted=head.consumes)
    return torch.cat([head(x_btnd.float()) for x_btnd in torch.split(x_wtnd, BATCH)])


def _point(
    method: str, count: int, draw: int, logits_wk: Tensor, test: UnseenClips, seconds: float
) -> Point:
    found = example_metrics(logits_wk, test.example_w, test.targets, LABELS, UNSEEN_COUNTERPARTS)
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


def _table(
    curve: Curve, value: Callable[[Point], float], cell: Callable[[list[float]], str]
) -> str:
    """Return a table with a row for each method and a column for each count."""
    counts = sorted({point.examples for point in curve.points})
    rows = []
    for method in _methods(curve):
        found = [_values(curve, method, count, value) for count in counts]
        rows.append((method, *(cell(values) if values else '' for values in found)))
    head = ('', *(str(count) for count in counts))
    return figures_table(head, rows)


def _methods(curve: Curve) -> list[str]:
    """Return the methods in the order in which they were measured."""
    return list(dict.fromkeys(point.method for point in curve.points))


def _values(
    curve: Curve, method: str, examples: int, value: Callable[[Point], float]
) -> list[float]:
    """Return one value of each draw of a method at a count of examples."""
    return [
        value(point)
        for point in curve.points
        if (point.method, point.examples) == (method, examples)
    ]


def _mean_and_range(values: list[float]) -> str:
    mean = f'{np.mean(values):.2f}'
    return mean if len(values) == 1 else f'{mean} ({min(values):.2f}-{max(values):.2f})'
