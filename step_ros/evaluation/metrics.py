"""Metrics of a task, with torchmetrics, and the layouts of the papers' tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)


def symmetric_metrics(
    scores_bk: np.ndarray,
    targets_b: np.ndarray,
    labels: Sequence[str],
    counterparts: Mapping[str, str],
) -> dict[str, float]:
    """Score answers by how they treat nearly symmetric labels.

    Args:
        scores_bk: Probabilities or logits.
        targets_b: True labels, as indices.
        labels: Labels, in the order of the scores.
        counterparts: Nearly symmetric partner of a label.

    Returns:
        `top1`, and over samples with a counterpart: `symmetric_top1`; `within_pair`, the share in
        which the true label scores above its counterpart (chance is 0.5); `to_counterpart`, the
        share answered with the counterpart. Over the others: `other_top1`.
    """
    partner_k = np.array(
        [
            list(labels).index(counterparts[label]) if label in counterparts else -1
            for label in labels
        ]
    )
    answer_b = scores_bk.argmax(axis=1)
    partner_b = partner_k[targets_b]
    has_b = partner_b >= 0
    right_b = answer_b == targets_b
    metrics = {'top1': float(right_b.mean())}
    if has_b.any():
        rows = np.flatnonzero(has_b)
        own, other = scores_bk[rows, targets_b[rows]], scores_bk[rows, partner_b[rows]]
        # A tie is half a hit: a head that cannot tell the two apart is at chance, not at zero.
        within = np.where(own > other, 1.0, np.where(own == other, 0.5, 0.0))
        metrics |= {
            'symmetric_top1': float(right_b[has_b].mean()),
            'within_pair': float(within.mean()),
            'to_counterpart': float((answer_b == partner_b)[has_b].mean()),
        }
    if (~has_b).any():
        metrics['other_top1'] = float(right_b[~has_b].mean())
    return {name: round(value, 4) for name, value in metrics.items()}


TOP = 5


def task_metrics(
    scores_ck: np.ndarray,
    targets_c: np.ndarray,
    labels: Sequence[str],
    counterparts: Mapping[str, str],
    *,
    training_counts: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Score the answers of one task.

    Args:
        scores_ck: Probabilities of each clip.
        targets_c: True labels, as indices.
        labels: Labels, in the order of the scores.
        counterparts: Nearly symmetric partner of a label.
        training_counts: Training clips of each label, for the common and the rare half.

    Returns:
        `clips`; `top1`, `top5`; `balanced` (mean over labels that occur); over labels with and
        without a counterpart `symmetric_top1`, `within_pair`, `to_counterpart`, `other_top1`;
        `common` and `rare` (balanced over the halves of the labels by training clips, fusion paper
        Table 7); `calibration_error` (15 bins); `labels`: of each label its `clips`, `top1`,
        `confused_with` and `confusion` (STEP Table III).

    Raises:
        ValueError: There are no clips.
    """
    if not len(targets_c):
        raise ValueError('no clips to score; is the split empty?')
    count = len(labels)
    scores, targets = torch.from_numpy(scores_ck), torch.from_numpy(targets_c)
    matrix = multiclass_confusion_matrix(scores, targets, num_classes=count).numpy()
    of_label = matrix.sum(axis=1)
    recall = np.divide(matrix.diagonal(), of_label, out=np.zeros(count), where=of_label > 0)
    metrics: dict[str, Any] = {
        'clips': len(targets_c),
        **symmetric_metrics(scores_ck, targets_c, labels, counterparts),
        'balanced': round(float(recall[of_label > 0].mean()), 4),
        'calibration_error': round(
            float(multiclass_calibration_error(scores, targets, num_classes=count, n_bins=15)), 4
        ),
    }
    if count > TOP:
        top5 = multiclass_accuracy(scores, targets, num_classes=count, top_k=TOP, average='micro')
        metrics['top5'] = round(float(top5), 4)
    if training_counts is not None:
        metrics |= _halves(recall, of_label, training_counts)
    metrics['labels'] = {
        label: _label_metrics(matrix[place], place, labels)
        for place, label in enumerate(labels)
        if of_label[place]
    }
    return metrics


def _halves(
    recall: np.ndarray, of_label: np.ndarray, training_counts: Sequence[int]
) -> dict[str, float]:
    by_frequency = np.argsort(-np.asarray(training_counts), kind='stable')
    middle = (len(by_frequency) + 1) // 2
    halves = {'common': by_frequency[:middle], 'rare': by_frequency[middle:]}
    return {
        name: round(float(recall[half][of_label[half] > 0].mean()), 4)
        for name, half in halves.items()
        if (of_label[half] > 0).any()
    }


def _label_metrics(row: np.ndarray, place: int, labels: Sequence[str]) -> dict[str, Any]:
    others = row.copy()
    others[place] = 0
    worst = int(others.argmax())
    return {
        'clips': int(row.sum()),
        'top1': round(float(row[place] / row.sum()), 4),
        'confused_with': labels[worst] if others[worst] else '',
        'confusion': round(float(others[worst] / row.sum()), 4),
    }
