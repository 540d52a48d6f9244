# SPDX-License-Identifier: Apache-2.0
"""The model card of a tabletop bundle, written from the bundle's metrics and provenance."""

from collections.abc import Iterator
from typing import Any

from step_ros.model.bundle import Bundle
from step_ros.reporting.markdown import MISSING, markdown_table

ORDERS = {
    'correct': 'frames in order',
    'reversed': 'frames reversed at test time',
    'shuffled': 'frames shuffled at test time',
}
COLUMNS = {
    'top1': 'all',
    'symmetric_top1': 'nearly symmetric',
    'other_top1': 'others',
    'within_pair': 'within pair',
    'to_counterpart': 'predicted counterpart',
}


def model_card(bundle: Bundle) -> str:
    """Return the card of a bundle whose encoder `train_bundle` pre-trained on the tabletop."""
    spec = bundle.spec
    recipe: dict[str, Any] = spec.provenance['recipe']
    pretraining, rendering = recipe['backbone']['pretraining'], recipe['data']['rendering'] or {}
    heads, clips = recipe['heads'], rendering.get('clips', {})
    backbone = bundle.model.backbone
    sizes = [
        sum(parameter.numel() for parameter in module.parameters())
        for module in (backbone, bundle.model.heads)
    ]
    tasks = ', '.join(f'{task.name} ({len(task.labels)})' for task in spec.tasks)
    per_action = f', {clips["train"]} of each action,' if 'train' in clips else ''
    orders = spec.metrics['test']
    first = next(iter(orders['correct'].values())) if orders else {'clips': 0}
    return f"""# {spec.name}

Model `{bundle.model_id}`, made by `step_ros train` from this repository's own code alone.

**What it is.** A demonstrator for the synthetic tabletop (`step_ros/tabletop/simulator.py`): it
shows the whole path from camera to hypothesis with weights small enough for git. **What it is
not.** It has never seen a real image and is of no use on a real camera; for that, train heads on
DINOv2 tokens of your own recordings. Never let a person's safety depend on it.

- Encoder: `{spec.backbone.name}` with {spec.backbone.arguments}: {sizes[0] / 1e6:.2f} M
  parameters, {spec.image.width} x {spec.image.height} px, {backbone.tokens} tokens of width
  {backbone.width}.
- Heads: {spec.heads.name} with {spec.heads.options}: {sizes[1] / 1e6:.2f} M parameters in
  all; tasks {tasks}.
- Window: {spec.frames} frames, one every {spec.frame_period:g} s.

## How it was trained

1. Dense pre-training of the encoder on {pretraining['scenes'] * pretraining['frames_per_scene']}
   rendered frames of {pretraining['scenes']} scenes (views: {', '.join(pretraining['views'])}),
   {pretraining['epochs']} epochs: each token learns which surfaces its patch shows and the state
   of the scene. No action labels, no sequences.
2. With the encoder frozen, the heads on {spec.metrics['training_clips']} clips{per_action}
   of other scenes, {heads['epochs']} epochs; each epoch takes one of
   {recipe['sampling']['train_views']} windows of each clip.
3. A temperature for each task, on validation clips.

The last call of `step_ros train` took {spec.provenance['minutes']} minutes on
{spec.provenance['cores']} CPU cores (torch {spec.provenance['torch']}). Training, validation and
test scenes share no seed, texture or speed.

## What it scores

On {first['clips']} test clips; the scores of a clip's {recipe['sampling']['test_clips']} windows
are averaged. `within pair` is the share of clips in which the true label of a nearly symmetric
pair scores above its counterpart (chance: 0.5).

{_run_table(spec.metrics)}

All figures: `metrics.json`.
"""


def _run_table(metrics: dict[str, Any]) -> str:
    return markdown_table(('run', 'task', *COLUMNS.values()), list(_rows(metrics)))


def _rows(metrics: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    runs = {
        f'{metrics["chosen_run"]}, {ORDERS[order]}': tasks
        for order, tasks in metrics['test'].items()
    }
    runs |= {
        name: orders['correct'] for name, orders in metrics.get('other_runs', {}).items() if orders
    }
    for title, tasks in runs.items():
        for task, found in tasks.items():
            values = (found.get(metric) for metric in COLUMNS)
            cells = (MISSING if value is None else f'{value:.3f}' for value in values)
            yield (title, task, *cells)
