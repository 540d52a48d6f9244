"""What heads make of a dataset's held-out clips: choosing, calibrating, evaluating."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from step_ros.data.clip_record import ClipRecord
from step_ros.data.datasets import Dataset
from step_ros.model.bundle_schema import TaskSpec
from step_ros.training.answers import answer_clips, score_answers
from step_ros.training.feature_cache import FeatureCache
from step_ros.training.fit import FitError, Run, fit_temperature
from step_ros.training.team import ALONE, Team
from step_ros.training.windows import NO_LABEL, label_numbers


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


def evaluate_orders(
    run: Run,
    tokens: Tokens,
    split: str,
    *,
    tasks: Sequence[TaskSpec],
    team: Team = ALONE,
) -> dict[str, dict[str, Any]]:
    """Score a run on a split with frames in order, reversed and shuffled (STEP (long) Table 2).

    Args:
        run: The heads.
        tokens: Of all clips.
        split: Which of them.
        tasks: What the heads decide, calibrated.
        team: The processes that share the work.

    Returns:
        Order to task to metrics; empty for an empty split.
    """
    records = _usable(tokens, split)
    if not records or tokens.held_out is None:
        return {}
    answers = answer_clips(
        {'run': run},
        tokens.held_out,
        records,
        temperatures={task.name: task.temperature for task in tasks},
        team=team,
    )['run']
    return score_answers(answers, tasks, training=tokens.records('train'))


def _usable(tokens: Tokens, split: str) -> list[ClipRecord]:
    held_out = tokens.held_out
    if held_out is None:
        return []
    return [record for record in tokens.records(split) if record.clip_id in held_out]


def best_run(
    runs: Mapping[str, Run], tokens: Tokens, *, team: Team = ALONE
) -> tuple[str, dict[str, float]]:
    """Return the run with the best mean accuracy on the validation clips, and all accuracies."""
    records = _usable(tokens, 'val')
    if not records or tokens.held_out is None:
        if len(runs) > 1:
            raise FitError('a grid needs validation clips to choose by; there are none')
        return next(iter(runs)), {}
    found = answer_clips(runs, tokens.held_out, records, orders=('correct',), team=team)
    accuracies = {}
    for name, answers in found.items():
        tasks = score_answers(answers, tokens.tasks)['correct']
        accuracies[name] = round(float(np.mean([each['top1'] for each in tasks.values()])), 4)
    return max(accuracies, key=accuracies.__getitem__), accuracies


@torch.inference_mode()
def calibrated(run: Run, tokens: Tokens, *, team: Team = ALONE) -> tuple[TaskSpec, ...]:
    """Fit each task's temperature on the windows of the validation clips; 1 without any."""
    records = _usable(tokens, 'val')
    if not records or tokens.held_out is None:
        return tokens.tasks
    spec = tokens.held_out.spec
    logits: dict[str, list[Tensor]] = {task: [] for task in run.heads}
    for record in records:
        x_btnd = torch.stack(
            [tokens.held_out.read(record.clip_id, view) for view in range(spec.views)]
        ).to(team.device)
        for task, head in run.heads.items():
            logits[task].append(head(run.tokens_of(x_btnd, spec.tokens)).cpu())
    numbers = label_numbers([record.labels for record in records], tokens.labels)
    return tuple(
        _with_temperature(task, torch.cat(logits[task.name]), numbers[task.name], views=spec.views)
        for task in tokens.tasks
    )


def _with_temperature(
    task: TaskSpec, logits_bk: Tensor, targets_c: Tensor, *, views: int
) -> TaskSpec:
    targets_b = targets_c.repeat_interleave(views)
    known = targets_b != NO_LABEL
    if not bool(known.any()):
        return task
    return task.model_copy(
        update={
            'temperature': fit_temperature(
                logits_bk[known], targets_b[known], samples=int((targets_c != NO_LABEL).sum())
            )
        }
    )
