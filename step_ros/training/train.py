# SPDX-License-Identifier: Apache-2.0
"""From a recipe to a bundle: encode, fit, choose a run, calibrate, evaluate, save."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from step_ros.encoders.base import choose_device
from step_ros.files import replace_file
from step_ros.model.backbone import HUB, Backbone
from step_ros.model.bundle import BACKBONE_FILE, Bundle, create_heads, load_bundle, save_bundle
from step_ros.model.bundle_schema import TaskSpec
from step_ros.model.heads.registry import consumed_tokens
from step_ros.model.multitask import MultiTaskModel
from step_ros.training.config import HeadRecipe, Recipe
from step_ros.training.dataset_tokens import Tokens, load_backbone, prepare_tokens
from step_ros.training.distributed import ALONE, Distributed
from step_ros.training.fit import FitError, FitRun, fit, fit_temperature
from step_ros.training.model_card import model_card
from step_ros.training.predict import ORDERS, Order, predict_clips, score_predictions
from step_ros.training.windows import NO_LABEL, CachedWindows, label_numbers

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def train_bundle(
    recipe: Recipe,
    output: Path,
    *,
    log: 'SummaryWriter | None' = None,
    distributed: Distributed | None = None,
) -> Bundle:
    """Train heads as a recipe says and write a bundle with its metrics.

    A bundle whose encoder was pre-trained here gets a model card, `README.md`, too. While heads
    are fitted, `OUTPUT.checkpoint/` holds their state.

    Args:
        recipe: The recipe.
        output: Folder of the bundle.
        log: Receives losses and accuracies.
        distributed: The processes that share the work; None for this one alone, on CUDA if there
            is a device.

    Raises:
        DatasetError: The dataset cannot be read.
        FitError: Too many clips are unusable, or there is nothing to learn from.
    """
    started = time.monotonic()
    distributed = distributed or Distributed(device=choose_device('auto'))
    backbone, arguments = load_backbone(recipe)
    settings = recipe.runs()
    kinds = {consumed_tokens(head.name, **head.options) for head in settings.values()}
    backbone.give(kinds.pop() if len(kinds) == 1 else 'all')
    tokens = prepare_tokens(recipe, backbone, distributed=distributed)
    windows = CachedWindows(tokens.train, tokens.records('train'), tokens.labels)
    runs = _create_runs(recipe, settings, tokens, backbone)
    history = fit(
        runs,
        windows,
        seed=recipe.seed,
        tokens=tokens.train.spec.key,
        checkpoint=output.with_name(output.name + '.checkpoint'),
        log=log,
        distributed=distributed,
    )
    chosen, validation = best_run(runs, tokens, distributed=distributed)
    tasks = calibrated(runs[chosen], tokens, distributed=distributed)
    metrics = {
        'chosen_run': chosen,
        'validation_top1': validation,
        'training_clips': len(windows),
        'left_out': len(tokens.train.failures),
        'loss': {name: round(history[-1][name], 4) for name in runs},
        'test': evaluate_orders(
            runs[chosen], tokens, 'test', tasks=tasks, distributed=distributed
        ),
    }
    if len(runs) > 1:
        metrics['other_runs'] = {
            name: evaluate_orders(
                run,
                tokens,
                'test',
                tasks=calibrated(run, tokens, distributed=distributed),
                orders=('correct',),
                distributed=distributed,
            )
            for name, run in runs.items()
            if name != chosen
        }
    if distributed.is_main_process:
        if log is not None:
            for name, accuracy in validation.items():
                log.add_scalar(f'validation_top1/{name}', accuracy, recipe.heads.epochs)
        bundle = save_bundle(
            output,
            MultiTaskModel(backbone, runs[chosen].heads),
            name=recipe.name,
            frame_period=tokens.frame_period,
            tasks=tasks,
            backbone_weights=HUB if recipe.backbone.from_hub else BACKBONE_FILE,
            backbone_arguments=arguments,
            description=recipe.description or f'Trained on {tokens.dataset.config.title}.',
            license=recipe.license,
            provenance=_provenance(recipe, started),
            metrics=metrics,
        )
        with replace_file(output / 'metrics.json') as partial:
            partial.write_text(json.dumps(metrics, indent=2) + '\n', encoding='utf-8')
        if recipe.backbone.pretraining is not None:
            (output / 'README.md').write_text(model_card(bundle), encoding='utf-8')
    distributed.wait()
    return load_bundle(output)


def _create_runs(
    recipe: Recipe, settings: Mapping[str, HeadRecipe], tokens: Tokens, backbone: Backbone
) -> dict[str, FitRun]:
    # Encoding draws random numbers too, depending on how many clips were left to encode.
    torch.manual_seed(recipe.seed)
    return {
        name: FitRun(
            heads=create_heads(
                head,
                tokens.tasks,
                width=backbone.width,
                frames=recipe.sampling.frames,
                tokens=backbone.tokens,
            ),
            how=head,
        )
        for name, head in settings.items()
    }


def _provenance(recipe: Recipe, started: float) -> dict[str, Any]:
    about = {
        'recipe': recipe.model_dump(mode='json'),
        'minutes': round((time.monotonic() - started) / 60, 1),
        'torch': torch.__version__,
    }
    if recipe.backbone.pretraining is not None:
        # Imported here: only the tabletop's own encoder needs the simulator.
        from step_ros.training.pretrain import pretraining_losses

        losses = pretraining_losses(recipe.backbone, recipe.cache.folder, seed=recipe.seed)
        about['pretraining_loss'] = [round(loss, 4) for loss in losses]
        about['cores'] = os.cpu_count()
    return about


def best_run(
    runs: Mapping[str, FitRun], tokens: Tokens, *, distributed: Distributed = ALONE
) -> tuple[str, dict[str, float]]:
    """Return the run with the best mean accuracy on the validation clips, and all accuracies.

    Raises:
        FitError: There are several runs and no validation clips.
    """
    records = tokens.encoded_records('val')
    if not records or tokens.held_out is None:
        if len(runs) > 1:
            raise FitError('a grid needs validation clips to choose the best run; there are none')
        return next(iter(runs)), {}
    predictions = predict_clips(
        runs, tokens.held_out, records, orders=('correct',), distributed=distributed
    )
    accuracies = {}
    for name, of_run in predictions.items():
        tasks = score_predictions(of_run, tokens.tasks)['correct']
        accuracies[name] = round(float(np.mean([each['top1'] for each in tasks.values()])), 4)
    return max(accuracies, key=accuracies.__getitem__), accuracies


@torch.inference_mode()
def calibrated(
    run: FitRun, tokens: Tokens, *, distributed: Distributed = ALONE
) -> tuple[TaskSpec, ...]:
    """Return the tasks with temperatures fitted on the windows of the validation clips.

    Without validation clips all temperatures stay 1.
    """
    records = tokens.encoded_records('val')
    if not records or tokens.held_out is None:
        return tokens.tasks
    spec = tokens.held_out.spec
    logits: dict[str, list[Tensor]] = {task: [] for task in run.heads}
    for record in records:
        x_btnd = torch.stack(
            [tokens.held_out.read(record.clip_id, view) for view in range(spec.views)]
        ).to(distributed.device)
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


def evaluate_orders(
    run: FitRun,
    tokens: Tokens,
    split: str,
    *,
    tasks: Sequence[TaskSpec],
    orders: Sequence[Order] = ORDERS,
    distributed: Distributed = ALONE,
) -> dict[str, dict[str, Any]]:
    """Score a run on a split, with the frames in several orders (STEP (long) Table 2).

    Args:
        run: The heads.
        tokens: Tokens of all clips.
        split: `val` or `test`.
        tasks: The calibrated tasks of the heads.
        orders: Orders of the frames.
        distributed: The processes that share the work.

    Returns:
        Order to task to metrics; empty for an empty split.
    """
    records = tokens.encoded_records(split)
    if not records or tokens.held_out is None:
        return {}
    predictions = predict_clips(
        {'run': run},
        tokens.held_out,
        records,
        orders=orders,
        temperatures={task.name: task.temperature for task in tasks},
        distributed=distributed,
    )['run']
    return score_predictions(predictions, tasks, training=tokens.records('train'))
