"""What a pictured run of an ablation answered on the test clips, with labels in pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from step_ros.data.datasets import Dataset
from step_ros.training.ablate import SCORES, AblationResult, RunResult


@dataclass(frozen=True, kw_only=True)
class LabelledAnswers:
    """Answers of one task where the truth is known.

    Attributes:
        title: What a picture calls them.
        labels: Those that occur, nearly symmetric ones first, each pair side by side.
        pairs: The pairs among them, as places in `labels`.
        targets_c: True labels, as places in `labels`.
        answers_c: Answers, likewise; -1 for a label that is not among them.
    """

    title: str
    labels: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    targets_c: np.ndarray
    answers_c: np.ndarray

    @property
    def paired(self) -> int:
        """How many of the labels, from the first one on, have a counterpart."""
        return 2 * len(self.pairs)

    @cached_property
    def confusion_kk(self) -> np.ndarray:
        """Share of each label's clips, by answer; the last column counts labels not listed."""
        count = len(self.labels)
        matrix = np.zeros((count, count + 1))
        np.add.at(matrix, (self.targets_c, self.answers_c), 1)
        shares_kk: np.ndarray = matrix / matrix.sum(axis=1, keepdims=True)
        return shares_kk

    @property
    def recall_k(self) -> np.ndarray:
        """Accuracy of each label."""
        return self.confusion_kk.diagonal()


@dataclass(frozen=True, kw_only=True)
class PicturedAnswers(LabelledAnswers):
    """Answers of one run for one task; clips without a label of the task are left out.

    Attributes:
        run: The run.
        task: Name of the task.
        task_labels: All its labels, in their order.
        clips: Names of the clips, c of them.
        features_cd: What the classifier saw.
    """

    run: RunResult
    task: str
    task_labels: tuple[str, ...]
    clips: tuple[str, ...]
    features_cd: np.ndarray


def read_answers(result: AblationResult, place: str, dataset: Dataset) -> PicturedAnswers:
    """Read what a run answered.

    Args:
        result: The ablation.
        place: Its row, "TABLE/ROW"; the task is the table's, or else the row's first.
        dataset: The clips, for their true labels.
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
    given = result.spec.recipe.data.counterparts.get(task.name, {})
    labels, pairs = paired_order(
        [label for label in task.labels if any(true[clips[index]] == label for index in known)],
        {**task.counterparts, **given},
    )
    places = {label: number for number, label in enumerate(labels)}
    answers = scores_ck[known].argmax(axis=1)
    return PicturedAnswers(
        title=table.rows[row_name].title,
        run=run,
        task=task.name,
        task_labels=task.labels,
        labels=labels,
        pairs=pairs,
        clips=tuple(clips[index] for index in known),
        targets_c=np.array([places[str(true[clips[index]])] for index in known]),
        answers_c=np.array([places.get(task.labels[answer], -1) for answer in answers]),
        features_cd=features_cd[known],
    )


def paired_order(
    labels: Sequence[str], counterparts: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Put counterparts side by side, before all labels that have none among the labels.

    Args:
        labels: The labels.
        counterparts: Nearly symmetric partner of a label, both ways.

    Returns:
        The labels, and the places of each pair.
    """
    ordered: list[str] = []
    for label in labels:
        partner = counterparts.get(label)
        if partner in labels and label not in ordered:
            ordered += [label, str(partner)]
    pairs = tuple((place, place + 1) for place in range(0, len(ordered), 2))
    return (*ordered, *(label for label in labels if label not in ordered)), pairs
