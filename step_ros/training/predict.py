# SPDX-License-Identifier: Apache-2.0
"""Predictions of trained heads on held-out clips, with the frames in several orders."""

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from step_ros.datasets.clip import ClipRecord
from step_ros.evaluation.metrics import task_metrics
from step_ros.model.bundle_schema import TaskSpec
from step_ros.reporting.progress import track
from step_ros.training.distributed import ALONE, Distributed
from step_ros.training.feature_cache.cache import FeatureCache
from step_ros.training.fit import FitRun
from step_ros.training.windows import NO_LABEL, label_numbers

Order = Literal['correct', 'reversed', 'shuffled']
ORDERS: tuple[Order, ...] = ('correct', 'reversed', 'shuffled')
# The windows of this many clips go through the heads at once.
CLIPS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class ClipPredictions:
    """Predictions of one run's heads.

    Attributes:
        records: The clips, c of them.
        scores: Probabilities `[c, k]`, averaged over a clip's windows; by order and task.
        features: Inputs of each task's classifier, `[c, d]`, averaged over a clip's windows, with
            the frames in order; empty unless asked for.
    """

    records: tuple[ClipRecord, ...]
    scores: Mapping[Order, Mapping[str, np.ndarray]]
    features: Mapping[str, np.ndarray] = field(default_factory=dict)


@torch.inference_mode()
def predict_clips(
    runs: Mapping[str, FitRun],
    cache: FeatureCache,
    records: Sequence[ClipRecord],
    *,
    orders: Sequence[Order] = ORDERS,
    features: bool = False,
    temperatures: Mapping[str, float] | None = None,
    distributed: Distributed = ALONE,
) -> dict[str, ClipPredictions]:
    """Return the predictions of all runs, from one pass over the tokens.

    Args:
        runs: The heads.
        cache: Tokens of the clips' windows.
        records: The clips; clips that are not in the cache are left out.
        orders: Orders of the frames (STEP (long) Table 2). All runs get the same shuffled clips.
        features: Whether to keep the inputs of the classifiers.
        temperatures: Calibration of each task; None for temperature 1.
        distributed: The processes that share the clips; the heads are on its device.
    """
    kept = [record for record in records if record.clip_id in cache]
    parts = [kept[at : at + CLIPS_AT_ONCE] for at in range(0, len(kept), CLIPS_AT_ONCE)]
    own = distributed.part(parts)
    scores = {name: {order: _lists(run) for order in orders} for name, run in runs.items()}
    seen = {name: _lists(run) for name, run in runs.items()}
    for part in track(own, 'predict clips', len(own), shown=distributed.is_main_process):
        views = range(cache.spec.views)
        x_btnd = torch.stack([cache.read(r.clip_id, view) for r in part for view in views])
        x_btnd = x_btnd.to(distributed.device)
        for name, run in runs.items():
            taken_btnd = run.tokens_of(x_btnd, cache.spec.tokens)
            for order in orders:
                ordered_btnd = _reorder(taken_btnd, order, part)
                for task, head in run.heads.items():
                    features_bd = head.features(ordered_btnd)
                    temperature = (temperatures or {}).get(task, 1.0)
                    scores_bk = (head.classifier(features_bd) / temperature).softmax(dim=-1)
                    scores[name][order][task].append(_clip_means(scores_bk, part))
                    if features and order == 'correct':
                        seen[name][task].append(_clip_means(features_bd, part))
    gathered = distributed.gather(
        {
            name: ClipPredictions(
                records=tuple(record for part in own for record in part),
                scores={order: _concatenate(by_task) for order, by_task in scores[name].items()},
                features=_concatenate(seen[name]),
            )
            for name in runs
        }
    )
    return {name: _join([predictions[name] for predictions in gathered]) for name in runs}


def _lists(run: FitRun) -> dict[str, list[Tensor]]:
    return {task: [] for task in run.heads}


def _clip_means(values_bx: Tensor, clips: Sequence[ClipRecord]) -> Tensor:
    """Return the mean over the windows of each clip."""
    return values_bx.reshape(len(clips), -1, values_bx.shape[-1]).mean(dim=1).cpu()


def _concatenate(by_task: Mapping[str, list[Tensor]]) -> dict[str, np.ndarray]:
    return {task: torch.cat(parts).numpy() for task, parts in by_task.items() if parts}


def _reorder(x_btnd: Tensor, order: Order, clips: Sequence[ClipRecord]) -> Tensor:
    """Return the windows of some clips with their frames in another order."""
    if order == 'correct':
        return x_btnd
    if order == 'reversed':
        return x_btnd.flip(dims=(1,))
    frames = x_btnd.shape[1]
    x_cvtnd = x_btnd.reshape(len(clips), -1, *x_btnd.shape[1:])
    return torch.cat(
        [
            windows[:, torch.from_numpy(_generator(clip).permutation(frames))]
            for windows, clip in zip(x_cvtnd, clips, strict=True)
        ]
    )


def _generator(clip: ClipRecord) -> np.random.Generator:
    """Return a clip's own random numbers: its shuffled order is the same in every run."""
    return np.random.default_rng(zlib.crc32(clip.clip_id.encode()))


def _join(parts: Sequence[ClipPredictions]) -> ClipPredictions:
    """Return the predictions of all processes as one."""
    if len(parts) == 1:
        return parts[0]
    records = tuple(record for part in parts for record in part.records)
    filled = [part for part in parts if part.records]

    def joined(of: Callable[[ClipPredictions], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        tasks = of(filled[0]) if filled else {}
        return {task: np.concatenate([of(part)[task] for part in filled]) for task in tasks}

    return ClipPredictions(
        records=records,
        scores={
            order: joined(lambda part, order=order: part.scores[order])  # type: ignore[misc]
            for order in parts[0].scores
        },
        features=joined(lambda part: part.features),
    )


def score_predictions(
    predictions: ClipPredictions,
    tasks: Sequence[TaskSpec],
    *,
    training: Sequence[ClipRecord] = (),
    of: Callable[[ClipRecord], bool] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the metrics of a run's predictions.

    Args:
        predictions: The predictions; they may lack some of the tasks.
        tasks: The tasks of the heads.
        training: The training clips, for the common and the rare half of the labels.
        of: Returns whether a clip counts; None counts all.

    Returns:
        Order to task to `task_metrics`. A task without a labelled clip is left out.
    """
    chosen = np.array([of is None or of(record) for record in predictions.records], dtype=bool)
    labels = {task.name: task.labels for task in tasks}
    numbers = label_numbers([record.labels for record in predictions.records], labels)
    found: dict[str, dict[str, Any]] = {}
    for order, by_task in predictions.scores.items():
        found[order] = {}
        for task in tasks:
            known = chosen & (numbers[task.name] != NO_LABEL).numpy()
            if task.name in by_task and known.any():
                counts = Counter(record.labels.get(task.name) for record in training)
                found[order][task.name] = task_metrics(
                    by_task[task.name][known],
                    numbers[task.name].numpy()[known],
                    task.labels,
                    task.counterparts,
                    training_counts=[counts[label] for label in task.labels] if counts else None,
                )
    return found
