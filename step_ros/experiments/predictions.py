# SPDX-License-Identifier: Apache-2.0
"""Predictions of a pictured run on the test clips, with the labels in pairs."""

from dataclasses import dataclass

import numpy as np

from step_ros.datasets.registry import Dataset
from step_ros.experiments.run import SCORES, AblationResult, RunResult
from step_ros.reporting.confusion import LabelledPredictions, paired_order


@dataclass(frozen=True, kw_only=True)
class PicturedPredictions(LabelledPredictions):
    """Predictions of one run for one task; clips without a label of the task are left out.

    Attributes:
        run: The run.
        task: Name of the task.
        task_labels: All labels of the task, in the order of the scores.
        clips: Names of the clips, c of them.
        features_cd: Inputs of the classifier, `[c, d]`.
    """

    run: RunResult
    task: str
    task_labels: tuple[str, ...]
    clips: tuple[str, ...]
    features_cd: np.ndarray


def read_predictions(result: AblationResult, place: str, dataset: Dataset) -> PicturedPredictions:
    """Read the predictions of a run.

    Args:
        result: The ablation.
        place: The row, as "TABLE/ROW". The task is the table's, or the row's first task if the
            row does not have the table's.
        dataset: The dataset, for the true labels.
    """
    table_name, _, row_name = place.partition('/')
    table = result.spec.tables[table_name]
    run = result.run(table_name, row_name)
    tasks = run.spec.tasks
    task = dataset.config.task(table.task if table.task in tasks else tasks[0])
    with np.load(run.folder / SCORES) as arrays:
        clips = arrays['clips'].tolist()
        scores_ck = arrays[f'scores/{task.name}']
        features_cd = arrays[f'features/{task.name}']
    true = {record.clip_id: record.labels.get(task.name) for record in dataset.records}
    known = [index for index, clip in enumerate(clips) if true[clip] is not None]
    # Pairs of the recipe are added to those of the dataset.
    of_recipe = result.spec.recipe.data.counterparts.get(task.name, {})
    labels, pairs = paired_order(
        [label for label in task.labels if any(true[clips[index]] == label for index in known)],
        {**task.counterparts, **of_recipe},
    )
    places = {label: number for number, label in enumerate(labels)}
    predicted = scores_ck[known].argmax(axis=1)
    return PicturedPredictions(
        title=table.rows[row_name].title,
        run=run,
        task=task.name,
        task_labels=task.labels,
        labels=labels,
        pairs=pairs,
        clips=tuple(clips[index] for index in known),
        targets_c=np.array([places[str(true[clips[index]])] for index in known]),
        predicted_c=np.array([places.get(task.labels[index], -1) for index in predicted]),
        features_cd=features_cd[known],
    )
