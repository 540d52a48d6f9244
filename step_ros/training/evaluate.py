"""How good a bundle is on a dataset."""

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
from step_ros.training.distributed import ALONE, Distributed
from step_ros.training.fit import FitError, FitRun
from step_ros.training.predict import ORDERS, predict_clips, score_predictions
from step_ros.training.sampler import Sampler, cached_tokens


def evaluate_bundle(
    bundle: Bundle,
    name: str,
    root: Path,
    *,
    options: Mapping[str, str],
    split: str = 'test',
    windows: int = 3,
    cache: CacheRecipe | None = None,
    team: Distributed = ALONE,
    encoder: Encoder | None = None,
) -> dict[str, Any]:
    """Score a bundle's heads on the clips of a split.

    Args:
        bundle: The bundle.
        name: A dataset, as `read_dataset` knows it.
        root: Its folder.
        options: Its reader's options.
        split: Which clips.
        windows: Windows of each clip whose answers are averaged.
        cache: Where tokens are kept; None for the default.
        team: The processes that share the work.
        encoder: Runs the bundle's backbone; None for torch in float32 on the team's device.

    Returns:
        `encoder`, its description; `clips`, `left_out`; `orders`: order to task to
        `task_metrics`; `views`: the same for each view where there are several, frames in order.

    Raises:
        DatasetError: The dataset cannot be read.
        FitError: The split is empty, none of its clips can be used, or data and bundle have no
            task in common.
        ValueError: A clip has a label that the bundle's task does not have.
    """
    dataset = read_dataset(name, root, **options)
    records = [record for record in dataset.records if record.split == split]
    if not records:
        raise FitError(f'{root}: split {split!r} has no clips')
    tasks = _common_tasks(bundle, dataset)
    encoder = encoder or TorchEncoder(bundle.model.backbone, device=team.device)
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
        head = bundle.model.heads[task.name].to(team.device)
        assert isinstance(head, Head)
        heads[task.name] = head
    answers = predict_clips(
        {'bundle': FitRun(heads=heads, how=HeadOptimisation())},
        tokens,
        records,
        orders=ORDERS,
        temperatures={task.name: task.temperature for task in tasks},
        team=team,
    )['bundle']
    if not answers.records:
        failure = tokens.failures[0]
        raise FitError(f'no clip can be used; for example {failure.clip_id}: {failure.why}')
    views = sorted({record.view for record in answers.records})

    def of_view(view: str) -> dict[str, Any]:
        scores = score_predictions(answers, tasks, of=lambda record: record.view == view)
        return scores['correct']

    return {
        'bundle': bundle.model_id,
        'encoder': encoder.description,
        'dataset': dataset.config.title,
        'split': split,
        'clips': len(answers.records),
        'left_out': len(tokens.failures) + len(dataset.problems),
        'orders': score_predictions(answers, tasks),
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
