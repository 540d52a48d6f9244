# SPDX-License-Identifier: Apache-2.0
"""Scores of a bundle's predictions on recordings; `docs/replay.md` defines every figure."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from step_ros.evaluation.events import EventCounts, count_events
from step_ros.evaluation.ground_truth import Truth
from step_ros.evaluation.metrics import task_metrics
from step_ros.evaluation.segments import OVERLAPS, SegmentCounts, edit_score, find_segments, runs
from step_ros.model.bundle_schema import TaskSpec
from step_ros.replay.results import CameraPredictions
from step_ros.reporting.percentiles import percentiles

DIGITS = 4
# The metrics of `task_metrics` that a replay reports. Left out are the top five and the halves by
# training clips (`top5`, `common`, `rare`), which are meant for clips of a dataset.
_FRAME_METRICS = (
    *('top1', 'balanced', 'symmetric_top1', 'within_pair', 'to_counterpart', 'other_top1'),
    *('calibration_error', 'labels'),
)
# In a sequence of label indices: a moment that has no true label and is not judged.
_UNKNOWN = -1


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Predictions for one camera of a bag, and its true labels.

    Attributes:
        bag: Name of the bag.
        predictions: The predictions of a bundle for one camera.
        truth: The true labels.
    """

    bag: str
    predictions: CameraPredictions
    truth: Truth

    def targets(self, task: TaskSpec, *, settled: bool = False) -> np.ndarray:
        """Return the true label of each hypothesis as an index, -1 where there is none.

        Args:
            task: The task.
            settled: Whether one label must be true throughout the window; otherwise the label at
                the newest frame counts.
        """
        places = {label: place for place, label in enumerate(task.labels)}
        predictions = self.predictions
        starts_ns = predictions.starts_ns_h if settled else predictions.stamps_ns_h
        return np.array(
            [
                places.get(self.truth.settled(task.name, int(start), int(end)), _UNKNOWN)
                for start, end in zip(starts_ns, predictions.stamps_ns_h, strict=True)
            ]
        )


def coverage(predictions: CameraPredictions, *, max_age_ns: int) -> float:
    """Return the share of a recording's time with a prediction that is not too old.

    Args:
        predictions: The predictions of a bundle for one camera.
        max_age_ns: How long a prediction stands if no other follows, in nanoseconds.
    """
    total_ns = predictions.last_ns - predictions.first_ns
    until_ns = np.append(predictions.stamps_ns_h[1:], predictions.last_ns)
    covered_ns = np.minimum(until_ns - predictions.stamps_ns_h, max_age_ns).clip(min=0).sum()
    return round(float(covered_ns / total_ns), DIGITS) if total_ns else 0.0


def score_task(
    recordings: Sequence[Recording], task: TaskSpec, *, ignored: Collection[str]
) -> dict[str, Any]:
    """Return the scores of one task on several recordings together.

    Args:
        recordings: The recordings; recordings without labels of the task are left out.
        task: The task.
        ignored: Labels of idleness, which make neither segments nor events.

    Returns:
        The counts `hypotheses`, `judged` and `settled`; the frame-wise metrics at the newest
        frame, `newest`, and on settled windows, `settled_windows`, None where no hypothesis is
        judged; F1 and edit score, `segments`; `events`; `order_evidence`.
    """
    judged = [each for each in recordings if each.truth.segments.get(task.name)]
    newest = _frame_metrics(judged, task, settled=False)
    settled = _frame_metrics(judged, task, settled=True)
    return {
        'hypotheses': sum(len(each.predictions.stamps_ns_h) for each in judged),
        'judged': 0 if newest is None else newest.pop('clips'),
        'settled': 0 if settled is None else settled.pop('clips'),
        'newest': newest,
        'settled_windows': settled,
        'segments': _segment_metrics(judged, task, ignored) if judged else None,
        'events': _event_metrics(judged, task, ignored) if judged else None,
        'order_evidence': _order_evidence(judged, task),
    }


def pooled(
    recordings: Sequence[Recording], task: TaskSpec, *, settled: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores `[h, k]`, targets `[h]` and order evidence `[h]` of all judged hypotheses."""
    scores, targets, evidence = [], [], []
    for each in recordings:
        targets_h = each.targets(task, settled=settled)
        known = targets_h != _UNKNOWN
        scores.append(each.predictions.scores_hk[task.name][known])
        evidence.append(each.predictions.order_evidence_h[task.name][known])
        targets.append(targets_h[known])
    if not scores:
        return np.zeros((0, len(task.labels))), np.zeros(0, int), np.zeros(0)
    return np.concatenate(scores), np.concatenate(targets), np.concatenate(evidence)


def _frame_metrics(
    recordings: Sequence[Recording], task: TaskSpec, *, settled: bool
) -> dict[str, Any] | None:
    scores_hk, targets_h, _ = pooled(recordings, task, settled=settled)
    if not len(targets_h):
        return None
    found = task_metrics(scores_hk, targets_h, task.labels, task.counterparts)
    return {name: found[name] for name in ('clips', *_FRAME_METRICS) if name in found}


def _segment_metrics(
    recordings: Sequence[Recording], task: TaskSpec, ignored: Collection[str]
) -> dict[str, Any]:
    background = {_UNKNOWN, *(task.labels.index(name) for name in ignored if name in task.labels)}
    found = dict.fromkeys(OVERLAPS, SegmentCounts())
    edits = []
    for each in recordings:
        targets_h = each.targets(task)
        predicted_h = each.predictions.scores_hk[task.name].argmax(axis=1)
        predicted_h[targets_h == _UNKNOWN] = _UNKNOWN
        predicted = runs(predicted_h.tolist(), background=background)
        true = runs(targets_h.tolist(), background=background)
        edits.append(edit_score(predicted, true))
        for overlap in OVERLAPS:
            found[overlap] += find_segments(predicted, true, overlap=overlap / 100)
    counted = found[OVERLAPS[0]]
    return {
        'true': counted.right + counted.missed,
        'predicted': counted.right + counted.wrong,
        **{f'f1_{overlap}': round(found[overlap].f1, DIGITS) for overlap in OVERLAPS},
        'edit': round(float(np.mean(edits)), DIGITS),
    }


def _event_metrics(
    recordings: Sequence[Recording], task: TaskSpec, ignored: Collection[str]
) -> dict[str, Any]:
    counts = EventCounts()
    for each in recordings:
        predictions = each.predictions
        counts += count_events(
            [timed for timed in predictions.events if timed.event.task == task.name],
            each.truth.segments[task.name],
            first_ns=predictions.first_ns,
            last_ns=predictions.last_ns,
            ignored=ignored,
        )
    return {
        'actions': counts.actions,
        'told': len(counts.delays_s),
        'told_share': _share(len(counts.delays_s), counts.actions),
        'delay_s': _percentiles(counts.delays_s),
        'repeated': counts.repeated,
        'false': counts.false,
        'false_per_minute': _rounded(counts.false_per_minute),
        'unjudged': counts.unjudged,
    }


def _order_evidence(recordings: Sequence[Recording], task: TaskSpec) -> dict[str, Any]:
    """Summarise the order evidence of correct and wrong predictions with a counterpart."""
    scores_hk, targets_h, evidence_h = pooled(recordings, task)
    partner_k = np.array(
        [
            task.labels.index(task.counterparts[label]) if label in task.counterparts else _UNKNOWN
            for label in task.labels
        ]
    )
    predicted_h = scores_hk.argmax(axis=1)
    counted = (partner_k[predicted_h] != _UNKNOWN) & ~np.isnan(evidence_h)
    correct = predicted_h == targets_h
    groups: Mapping[str, np.ndarray] = {
        'right': counted & correct,
        'wrong': counted & ~correct,
        'to_counterpart': counted & (partner_k[predicted_h] == targets_h),
    }
    return {
        name: {
            'count': int(chosen.sum()),
            'mean': _rounded(float(evidence_h[chosen].mean()) if chosen.any() else None),
            **_percentiles(evidence_h[chosen]),
        }
        for name, chosen in groups.items()
    }


def _percentiles(values: Sequence[float] | np.ndarray) -> dict[str, float | None]:
    found = percentiles(values, (50, 95)).items()
    return {name: None if math.isnan(value) else _rounded(value) for name, value in found}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, DIGITS) if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
