"""The model card of a tabletop bundle, written from its own metrics and provenance."""

from typing import Any

from step_ros.model.bundle import Bundle

RUNS = {
    'step': 'STEP',
    'step_reversed': 'STEP, frames reversed at test time',
    'without_positions': 'the same head without positional embedding',
}


def model_card(bundle: Bundle) -> str:
    """Write the card of a bundle that `make_tabletop_model` made."""
    spec = bundle.spec
    recipe: dict[str, Any] = spec.provenance['recipe']
    encoder, heads = recipe['encoder'], recipe['heads']
    backbone = bundle.model.backbone
    sizes = [
        sum(parameter.numel() for parameter in module.parameters())
        for module in (backbone, bundle.model.heads)
    ]
    tasks = ', '.join(f'{task.name} ({len(task.labels)})' for task in spec.tasks)
    return f"""# {spec.name}

Model `{bundle.model_id}`, made by `make model` from this repository's own code and nothing else.

**What it is.** A demonstrator for the synthetic tabletop (`step_ros/tabletop/simulator.py`): it
shows the whole path from camera to hypothesis with weights small enough for git. **What it is
not.** It has never seen a real image and is of no use on a real camera; for that, train heads on
DINOv2 tokens of your own recordings. Never let a person's safety depend on it.

- Encoder: `{spec.backbone.name}` with {spec.backbone.arguments}: {sizes[0] / 1e6:.2f} M
  parameters, {spec.image.width} x {spec.image.height} px, {backbone.tokens} tokens of width
  {backbone.width}.
- Heads: STEP, {heads['attention_heads']} attention heads, {sizes[1] / 1e6:.2f} M parameters in
  all; tasks {tasks}.
- Window: {spec.frames} frames, one every {spec.frame_period:g} s.

## How it was trained

1. Dense pre-training of the encoder on {encoder['scenes'] * encoder['frames_per_scene']} rendered
   frames of {encoder['scenes']} scenes (views: {', '.join(recipe['views'])}),
   {encoder['epochs']} epochs: each token tells which surfaces its patch shows and the state of the
   scene. No action labels, no sequences.
2. With the encoder frozen, the heads on {heads['clips_per_action']} clips of each action, other
   scenes, {heads['epochs']} epochs of one random window of each clip.
3. A temperature for each task, on validation clips.

It took {spec.provenance['minutes']} minutes on {spec.provenance['cores']} CPU cores (torch
{spec.provenance['torch']}). Training, validation and test scenes share no seed, texture or speed.

## What it scores

On {spec.metrics['test_clips']} test clips; "windows" are all windows inside the clips, each judged
alone; "clips" average a clip's windows. `within pair` is the share in which the true label of a
nearly symmetric pair scores above its counterpart (chance: 0.5).

{_table(spec.metrics, 'action')}

| task | clips | windows |
|---|---|---|
{_tasks(spec.metrics, [task.name for task in spec.tasks])}

All figures: `metrics.json`.
"""


def _table(metrics: dict[str, Any], task: str) -> str:
    rows = [
        f'| {task} | per | all | nearly symmetric | others | within pair | answered counterpart |',
        '|---|---|---|---|---|---|---|',
    ]
    for run, title in RUNS.items():
        for per in ('clips', 'windows'):
            values = metrics[run][task][per]
            rows.append(
                f'| {title} | {per} | {values["top1"]:.3f} | {values["symmetric_top1"]:.3f} '
                f'| {values["other_top1"]:.3f} | {values["within_pair"]:.3f} '
                f'| {values["to_counterpart"]:.3f} |'
            )
    return '\n'.join(rows)


def _tasks(metrics: dict[str, Any], tasks: list[str]) -> str:
    return '\n'.join(
        f'| {task} | {metrics["step"][task]["clips"]["top1"]:.3f} '
        f'| {metrics["step"][task]["windows"]["top1"]:.3f} |'
        for task in tasks
    )
