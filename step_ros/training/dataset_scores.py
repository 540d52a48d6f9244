"""What heads make of a dataset's held-out clips: choosing, calibrating, evaluating."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from step_ros.data.clip_record import ClipRecord
from step_ros.data.datasets import Dataset
from step_ros.model.bundle_schema import TaskSpec
from step_ros.model.head import Head
from step_ros.training.feature_cache import FeatureCache
from step_ros.training.fit import FitError, Run, fit_temperature
from step_ros.training.metrics import task_metrics
from step_ros.training.windows import NO_LABEL, label_numbers

ORDERS = ('correct', 'reversed', 'shuffled')


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Cached tokens of a dataset, and what they show.

    Attributes:
        dataset: The clips.
        tasks: The tasks to learn.
        frame_period: Seconds between two frames of a window.
        train: Training views.
        held_out: Windows of all validation and test clips.
    """

    dataset: Dataset
    tasks: tuple[TaskSpec, ...]
    frame_period: float
    train: FeatureCache
    held_out: FeatureCache | None

    def records(self, split: str) -> list[ClipRecord]:
        """Return the clips of a split."""
        return [record for record in self.dataset.records if record.split == split]

    @property
    def labels(self) -> dict[str, Sequence[str]]:
        """Labels of each task, in order."""
        return {task.name: task.labels for task in self.tasks}


@torch.inference_mode()
def evaluate_orders(
    heads: Mapping[str, Head], tokens: Tokens, split: str
) -> dict[str, dict[str, Any]]:
    """Score heads on a split with frames in order, reversed and shuffled (STEP (long) Table 2).

    Returns:
        Order to task to metrics; empty for an empty split.
    """
    records = _usable(tokens, split)
    counts = {
        task.name: Counter(record.labels.get(task.name) for record in tokens.records('train'))
        for task in tokens.tasks
    }
    found: dict[str, dict[str, Any]] = {}
    for order in ORDERS if records else ():
        scores = _scores(heads, tokens, records, order)
        found[order] = {}
        for task in tokens.tasks:
            targets = label_numbers([r.labels for r in records], tokens.labels)[task.name]
            known = (targets != NO_LABEL).numpy()
            if known.any():
                found[order][task.name] = task_metrics(
                    scores[task.name][known],
                    targets.numpy()[known],
                    task.labels,
                    task.counterparts,
                    training_counts=[counts[task.name][label] for label in task.labels],
                )
    return found


def _scores(
    heads: Mapping[str, Head], tokens: Tokens, records: Sequence[ClipRecord], order: str
) -> dict[str, np.ndarray]:
    """Average the probabilities of each clip's windows, `[c, k]` for each task."""
    assert tokens.held_out is not None
    rng = np.random.default_rng(0)
    scores: dict[str, list[Tensor]] = {task: [] for task in heads}
    for record in records:
        x_btnd = torch.stack(
            [
                tokens.held_out.read(record.clip_id, view)
                for view in range(tokens.held_out.spec.views)
            ]
        )
        if order == 'reversed':
            x_btnd = x_btnd.flip(dims=(1,))
        elif order == 'shuffled':
            x_btnd = x_btnd[:, torch.from_numpy(rng.permutation(x_btnd.shape[1]))]
        for task, head in heads.items():
            scores[task].append(head(x_btnd).softmax(dim=-1).mean(dim=0))
    return {task: torch.stack(parts).numpy() for task, parts in scores.items()}


def _usable(tokens: Tokens, split: str) -> list[ClipRecord]:
    held_out = tokens.held_out
    if held_out is None:
        return []
    return [record for record in tokens.records(split) if record.clip_id in held_out]


@torch.inference_mode()
def best_run(runs: Mapping[str, Run], tokens: Tokens) -> tuple[str, dict[str, float]]:
    """Return the run with the best mean accuracy on the validation clips, and all accuracies."""
    records = _usable(tokens, 'val')
    if not records:
        if len(runs) > 1:
            raise FitError('a grid needs validation clips to choose by; there are none')
        return next(iter(runs)), {}
    targets = label_numbers([record.labels for record in records], tokens.labels)
    accuracies = {}
    for name, run in runs.items():
        scores = _scores(run.heads, tokens, records, 'correct')
        shares = [
            float((scores[task].argmax(axis=1) == targets[task].numpy()).mean()) for task in scores
        ]
        accuracies[name] = round(float(np.mean(shares)), 4)
    return max(accuracies, key=accuracies.__getitem__), accuracies


@torch.inference_mode()
def calibrated(heads: Mapping[str, Head], tokens: Tokens) -> tuple[TaskSpec, ...]:
    """Fit each task's temperature on the windows of the validation clips; 1 without any."""
    records = _usable(tokens, 'val')
    if not records or tokens.held_out is None:
        return tokens.tasks
    views = range(tokens.held_out.spec.views)
    logits: dict[str, list[Tensor]] = {task: [] for task in heads}
    for record in records:
        x_btnd = torch.stack([tokens.held_out.read(record.clip_id, view) for view in views])
        for task, head in heads.items():
            logits[task].append(head(x_btnd))
    numbers = label_numbers([record.labels for record in records], tokens.labels)
    return tuple(
        task.model_copy(
            update={
                'temperature': fit_temperature(
                    torch.cat(logits[task.name]),
                    numbers[task.name].repeat_interleave(len(views)),
                )
            }
        )
        for task in tokens.tasks
    )
