# SPDX-License-Identifier: Apache-2.0
"""The metrics of a bundle on a dataset."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from step_ros.datasets.registry import Dataset, read_dataset
from step_ros.encoders.base import Encoder, TorchEncoder
from step_ros.model.bundle import Bundle
from step_ros.model.bundle_schema import TaskSpec
from step_ros.model.heads.base import Head
from step_ros.streaming.grid import NANOSECONDS
from step_ros.training.config import CacheRecipe, HeadOptimisation
from step_ros.training.dataset_tokens import cached_tokens
from step_ros.training.distributed import ALONE, Distributed
from step_ros.training.fit import FitError, FitRun
from step_ros.training.predict import ORDERS, predict_clips, score_predictions
from step_ros.training.sampler import Sampler


def evaluate_bundle(
    bundle: Bundle,
    name: str,
    root: Path,
    *,
    options: Mapping[str, str],
    split: str = 'test',
    windows: int = 3,
    cache: CacheRecipe | None = None,
    distributed: Distributed = ALONE,
    encoder: Encoder | None = None,
) -> dict[str, Any]:
    """Return the metrics of a bundle's heads on the clips of a split.

    Args:
        bundle: The bundle.
        name: Name of a dataset, see `read_dataset`.
        root: Folder of the dataset.
        options: Options of its reader.
        split: `train`, `val` or `test`.
        windows: Windows of each clip; their scores are averaged.
        cache: Folder and format of the tokens; None for the defaults.
        distributed: The processes that share the work.
        encoder: Runs the bundle's backbone; None for torch in float32 on the device of
            `distributed`.

    Returns:
        `encoder`: its description; `clips` and `left_out`: numbers of clips; `orders`: order to
        task to `task_metrics`; `views`: view to task to `task_metrics` with the frames in order,
        empty for a single view.

    Raises:
        DatasetError: The dataset cannot be read.
        FitError: The split is empty, none of its clips can be used, or dataset and bundle have no
            task in common.
        ValueError: A clip has a label that the bundle's task does not have.
    """
    dataset = read_dataset(name, root, **options)
    records = [record for record in dataset.records if record.split == split]
    if not records:
        raise FitError(f'{root}: split {split!r} has no clips')
    tasks = _common_tasks(bundle, dataset)
    encoder = encoder or TorchEncoder(bundle.model.backbone, device=distributed.device)
    tokens = cached_tokens(
        records,
        Sampler(
            frames=bundle.spec.frames,
            frame_period_ns=round(bundle.spec.frame_period * NANOSECONDS),
            size=bundle.model.backbone.image_size,
            views=windows,
        ),
        bundle.model.backbone,
        encoder,
        cache or CacheRecipe(),
        dataset=f'{name} {json.dumps(dict(options), sort_keys=True)} {split} of {len(records)}',
    )
    heads: dict[str, Head] = {}
    for task in tasks:
        head = bundle.model.heads[task.name].to(distributed.device)
        assert isinstance(head, Head)
        heads[task.name] = head
    predictions = predict_clips(
        {'bundle': FitRun(heads=heads, how=HeadOptimisation())},
        tokens,
        records,
        orders=ORDERS,
        temperatures={task.name: task.temperature for task in tasks},
        distributed=distributed,
    )['bundle']
    if not predictions.records:
        failure = tokens.failures[0]
        raise FitError(f'no clip can be used; for example {failure.clip_id}: {failure.why}')
    views = sorted({record.view for record in predictions.records})

    def of_view(view: str) -> dict[str, Any]:
        scores = score_predictions(predictions, tasks, of=lambda record: record.view == view)
        return scores['correct']

    return {
        'bundle': bundle.model_id,
        'encoder': encoder.description,
        'dataset': dataset.config.title,
        'split': split,
        'clips': len(predictions.records),
        'left_out': len(tokens.failures) + len(dataset.problems),
        'orders': score_predictions(predictions, tasks),
        'views': {view: of_view(view) for view in (views if len(views) > 1 else ())},
    }


def _common_tasks(bundle: Bundle, dataset: Dataset) -> list[TaskSpec]:
    known = {task.name for task in dataset.config.tasks}
    tasks = [task for task in bundle.spec.tasks if task.name in known]
    if not tasks:
        ours = ', '.join(task.name for task in bundle.spec.tasks)
        raise FitError(
            f'{bundle.path}: its tasks are {ours}, those of the data {", ".join(sorted(known))}: '
            'none in common'
        )
    return tasks
