"""From a recipe for a dataset to a bundle: encode, fit, choose, calibrate, evaluate, save."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.registry import Dataset, read_dataset
from step_ros.encoders.base import TorchEncoder, choose_device
from step_ros.model.backbone import HUB, Backbone, create_backbone
from step_ros.model.bundle import BACKBONE_FILE, Bundle, create_heads, load_bundle, save_bundle
from step_ros.model.bundle_schema import TaskSpec
from step_ros.model.heads.registry import consumed_tokens
from step_ros.model.multitask import MultiTaskModel
from step_ros.resources import find_bundle
from step_ros.streaming.grid import NANOSECONDS
from step_ros.training.config import DatasetRecipe
from step_ros.training.distributed import ALONE, Distributed
from step_ros.training.feature_cache.cache import FeatureCache
from step_ros.training.feature_cache.spec import check_room
from step_ros.training.fit import FitError, FitRun, fit, fit_temperature
from step_ros.training.predict import predict_clips, score_predictions
from step_ros.training.sampler import (
    Sampler,
    cached_tokens,
    common_frame_period,
    estimate_tokens,
    sided_clips,
)
from step_ros.training.windows import NO_LABEL, CachedWindows, label_numbers

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


# ---- What heads make of a dataset's held-out clips: choosing, calibrating, evaluating.


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
    run: FitRun,
    tokens: Tokens,
    split: str,
    *,
    tasks: Sequence[TaskSpec],
    team: Distributed = ALONE,
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
    answers = predict_clips(
        {'run': run},
        tokens.held_out,
        records,
        temperatures={task.name: task.temperature for task in tasks},
        team=team,
    )['run']
    return score_predictions(answers, tasks, training=tokens.records('train'))


def _usable(tokens: Tokens, split: str) -> list[ClipRecord]:
    held_out = tokens.held_out
    if held_out is None:
        return []
    return [record for record in tokens.records(split) if record.clip_id in held_out]


def best_run(
    runs: Mapping[str, FitRun], tokens: Tokens, *, team: Distributed = ALONE
) -> tuple[str, dict[str, float]]:
    """Return the run with the best mean accuracy on the validation clips, and all accuracies."""
    records = _usable(tokens, 'val')
    if not records or tokens.held_out is None:
        if len(runs) > 1:
            raise FitError('a grid needs validation clips to choose by; there are none')
        return next(iter(runs)), {}
    found = predict_clips(runs, tokens.held_out, records, orders=('correct',), team=team)
    accuracies = {}
    for name, answers in found.items():
        tasks = score_predictions(answers, tokens.tasks)['correct']
        accuracies[name] = round(float(np.mean([each['top1'] for each in tasks.values()])), 4)
    return max(accuracies, key=accuracies.__getitem__), accuracies


@torch.inference_mode()
def calibrated(run: FitRun, tokens: Tokens, *, team: Distributed = ALONE) -> tuple[TaskSpec, ...]:
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


def train_on_dataset(
    recipe: DatasetRecipe,
    output: Path,
    *,
    log: 'SummaryWriter | None' = None,
    team: Distributed | None = None,
) -> Bundle:
    """Follow a recipe and write a bundle, its metrics and, while it lasts, checkpoints.

    Args:
        recipe: What to make.
        output: Folder of the bundle; `checkpoint/` beside it holds the state of the fit.
        log: Where losses and accuracies go.
        team: The processes that share the work; None for this one alone, with CUDA if it is there.

    Raises:
        DatasetError: The dataset cannot be read.
        FitError: Too many clips are unusable, or there is nothing to learn from.
    """
    started = time.monotonic()
    team = team or Distributed(device=choose_device('auto'))
    backbone, arguments = load_backbone(recipe)
    runs_wanted = recipe.runs()
    kinds = {consumed_tokens(how.name, **how.options) for how in runs_wanted.values()}
    backbone.give(kinds.pop() if len(kinds) == 1 else 'all')
    tokens = prepare_tokens(recipe, backbone, team=team)
    windows = CachedWindows(tokens.train, tokens.records('train'), tokens.labels)
    # Encoding draws random numbers too, as many as there is left to encode.
    torch.manual_seed(recipe.seed)
    runs = {
        name: FitRun(
            heads=create_heads(
                how,
                tokens.tasks,
                width=backbone.width,
                frames=recipe.sampling.frames,
                tokens=backbone.tokens,
            ),
            how=how,
        )
        for name, how in runs_wanted.items()
    }
    checkpoint = output.with_name(output.name + '.checkpoint')
    history = fit(runs, windows, seed=recipe.seed, checkpoint=checkpoint, log=log, team=team)
    chosen, validation = best_run(runs, tokens, team=team)
    tasks = calibrated(runs[chosen], tokens, team=team)
    metrics = {
        'chosen_run': chosen,
        'validation_top1': validation,
        'training_clips': len(windows),
        'left_out': len(tokens.train.failures),
        'loss': {name: round(history[-1][name], 4) for name in runs},
        'test': evaluate_orders(runs[chosen], tokens, 'test', tasks=tasks, team=team),
    }
    if log is not None and team.is_main_process:
        for name, accuracy in validation.items():
            log.add_scalar(f'validation_top1/{name}', accuracy, recipe.heads.epochs)
    if team.is_main_process:
        hub = recipe.backbone.bundle is None and recipe.backbone.weights == HUB
        save_bundle(
            output,
            MultiTaskModel(backbone, runs[chosen].heads),
            name=recipe.name,
            frame_period=tokens.frame_period,
            tasks=tasks,
            backbone_weights=HUB if hub else BACKBONE_FILE,
            backbone_arguments=arguments,
            description=f'Trained on {tokens.dataset.config.title}.',
            provenance={
                'recipe': recipe.model_dump(mode='json'),
                'minutes': round((time.monotonic() - started) / 60, 1),
                'torch': torch.__version__,
            },
            metrics=metrics,
        )
        (output / 'metrics.json').write_text(
            json.dumps(metrics, indent=2) + '\n', encoding='utf-8'
        )
    team.wait()
    return load_bundle(output)


def prepare_tokens(
    recipe: DatasetRecipe, backbone: Backbone, *, team: Distributed = ALONE
) -> Tokens:
    """Read the dataset and encode what is not cached yet.

    Raises:
        DatasetError: The dataset cannot be read.
        FitError: There are no training clips, or too many clips are unusable.
    """
    data = recipe.data
    dataset = read_dataset(data.dataset, data.root, **data.options)
    records = {
        split: [record for record in dataset.records if record.split == split]
        for split in ('train', 'val', 'test')
    }
    if not records['train']:
        raise FitError(
            f'{data.root}: no training clips; {len(dataset.problems)} problems were found'
        )
    frame_period = common_frame_period(dataset.records, recipe)
    encoder = TorchEncoder(backbone, device=team.device)
    sampling = recipe.sampling
    name = f'{data.dataset} {json.dumps(data.options, sort_keys=True)}'

    def sampler(views: int, **options: Any) -> Sampler:
        return Sampler(
            frames=sampling.frames,
            frame_period_ns=round(frame_period * NANOSECONDS),
            size=backbone.image_size,
            views=views,
            kind=sampling.kind,
            **options,
        )

    training = sampler(
        sampling.train_views,
        augmentation=recipe.augmentation,
        seed=recipe.seed,
        sided=sided_clips(dataset.config, records['train']),
    )
    testing = sampler(sampling.test_views, crops=sampling.test_crops)
    planned = [
        (part, how, f'{name}, {_list_digest(part)}')
        for part, how in (
            (records['train'], training),
            (records['val'] + records['test'], testing),
        )
        if part
    ]
    check_room(
        [
            estimate_tokens(part, how, backbone, recipe.cache, dataset=named)
            for part, how, named in planned
        ]
    )
    caches = [
        cached_tokens(part, how, backbone, encoder, recipe.cache, dataset=named)
        for part, how, named in planned
    ]
    _check_left_out(recipe, dataset, caches)
    return Tokens(
        dataset=dataset,
        tasks=_tasks(recipe, dataset),
        frame_period=frame_period,
        train=caches[0],
        held_out=caches[1] if len(caches) > 1 else None,
    )


def _tasks(recipe: DatasetRecipe, dataset: Dataset) -> tuple[TaskSpec, ...]:
    known = {task.name: task for task in dataset.config.tasks}
    for name in (*recipe.data.tasks, *recipe.data.counterparts):
        if name not in known:
            raise FitError(f'data.tasks: {name!r} is no task of the dataset: {", ".join(known)}')
    return tuple(
        TaskSpec(
            name=name,
            labels=known[name].labels,
            counterparts={**known[name].counterparts, **recipe.data.counterparts.get(name, {})},
        )
        for name in recipe.data.tasks or known
    )


def _check_left_out(
    recipe: DatasetRecipe, dataset: Dataset, caches: Sequence[FeatureCache]
) -> None:
    failures = [failure for cache in caches for failure in cache.failures]
    wrong = len(dataset.problems) + len(failures)
    everything = len(dataset.records) + len(dataset.problems)
    if wrong > recipe.data.most_left_out * everything:
        examples = [str(problem) for problem in dataset.problems[:3]]
        examples += [f'{failure.clip_id}: {failure.why}' for failure in failures[:3]]
        raise FitError(
            f'{wrong} of {everything} clips cannot be used, more than data.most_left_out='
            f'{recipe.data.most_left_out:g} allows; for example\n  ' + '\n  '.join(examples)
        )


def load_backbone(recipe: DatasetRecipe) -> tuple[Backbone, dict[str, Any]]:
    """Return the encoder, and the constructor arguments it was made with."""
    wanted = recipe.backbone
    arguments: dict[str, Any] = {}
    if wanted.bundle is not None:
        bundle = load_bundle(find_bundle(wanted.bundle))
        backbone, arguments = bundle.model.backbone, bundle.spec.backbone.arguments
    else:
        assert wanted.name is not None
        backbone = create_backbone(
            wanted.name,
            weights=wanted.weights,
            image_size=(wanted.image_height, wanted.image_width),
        )
    if wanted.token_grid is not None:
        backbone.average_onto(wanted.token_grid)
    return backbone, arguments


def _list_digest(records: Sequence[ClipRecord]) -> str:
    """Name a list of clips and their spans: another list is another cache."""
    lines = sorted(f'{r.clip_id} {r.video.name} {r.span}' for r in records)
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:12]
