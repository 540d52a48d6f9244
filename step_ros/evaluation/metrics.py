# SPDX-License-Identifier: Apache-2.0
"""Metrics of one task's predictions, as in the papers' tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)

# The `k` of the top-k accuracy.
TOP = 5


def symmetric_metrics(
    scores_bk: np.ndarray,
    targets_b: np.ndarray,
    labels: Sequence[str],
    counterparts: Mapping[str, str],
) -> dict[str, float]:
    """Return metrics that separate nearly symmetric labels from the others.

    Args:
        scores_bk: Probabilities or logits, `[samples, labels]`.
        targets_b: True labels, as indices, `[samples]`.
        labels: Labels, in the order of the scores.
        counterparts: Nearly symmetric partner of a label.

    Returns:
        `top1` over all samples; over samples whose true label has a counterpart `symmetric_top1`,
        `within_pair` and `to_counterpart`; over the other samples `other_top1`. `within_pair` is
        the share in which the true label scores above its counterpart (chance is 0.5);
        `to_counterpart` is the share in which the counterpart scores highest.
    """
    partner_k = np.array(
        [
            list(labels).index(counterparts[label]) if label in counterparts else -1
            for label in labels
        ]
    )
    predicted_b = scores_bk.argmax(axis=1)
    partner_b = partner_k[targets_b]
    has_b = partner_b >= 0
    correct_b = predicted_b == targets_b
    metrics = {'top1': float(correct_b.mean())}
    if has_b.any():
        rows = np.flatnonzero(has_b)
        own, other = scores_bk[rows, targets_b[rows]], scores_bk[rows, partner_b[rows]]
        # A tie counts half: a head that gives both labels equal scores is at chance, not at zero.
        within = np.where(own > other, 1.0, np.where(own == other, 0.5, 0.0))
        metrics |= {
            'symmetric_top1': float(correct_b[has_b].mean()),
            'within_pair': float(within.mean()),
            'to_counterpart': float((predicted_b == partner_b)[has_b].mean()),
        }
    if (~has_b).any():
        metrics['other_top1'] = float(correct_b[~has_b].mean())
    return {name: round(value, 4) for name, value in metrics.items()}


def task_metrics(
    scores_ck: np.ndarray,
    targets_c: np.ndarray,
    labels: Sequence[str],
    counterparts: Mapping[str, str],
    *,
    training_counts: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return the metrics of one task's predictions.

    Args:
        scores_ck: Probabilities of each clip, `[clips, labels]`.
        targets_c: True labels, as indices, `[clips]`.
        labels: Labels, in the order of the scores.
        counterparts: Nearly symmetric partner of a label.
        training_counts: Number of training clips of each label, to split the labels into a common
            and a rare half.

    Returns:
        `clips`; `top1`, `top5`; `balanced`, the mean accuracy over labels that occur; the metrics
        of `symmetric_metrics`; `common` and `rare`, the balanced accuracy of each half of the
        labels by training clips (fusion paper, Table 7); `calibration_error` (15 bins); and
        `labels`, with `clips`, `top1`, `confused_with` and `confusion` of each label (STEP,
        Table III).

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
