"""From a recipe to the bundle that ships: pre-train, fit, calibrate, evaluate, save."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from step_ros.encoders.base import TorchEncoder
from step_ros.evaluation.metrics import symmetric_metrics
from step_ros.model.backbone import Backbone, create_backbone
from step_ros.model.bundle import BACKBONE_FILE, Bundle, save_bundle
from step_ros.model.bundle_schema import TaskSpec
from step_ros.model.heads.base import Head
from step_ros.model.heads.registry import create_head
from step_ros.model.multitask import MultiTaskModel
from step_ros.model.positions import Positions
from step_ros.model.tokens import TokenKind
from step_ros.tabletop.simulator import COUNTERPARTS, SURFACES, TASKS
from step_ros.training.clips import ClipTokens, cut_window, encode_tabletop_clips, window_starts
from step_ros.training.config import Recipe
from step_ros.training.evaluate_clips import (
    WindowPredictions,
    clip_scores,
    predict_windows,
    targets_of,
)
from step_ros.training.fit import FitRun, fit, fit_temperature
from step_ros.training.model_card import model_card
from step_ros.training.pretrain import pretrain_encoder, render_supervised_frames
from step_ros.training.windows import label_numbers


class ClipWindows:
    """Windows with a random start, cut from clips whose every frame was encoded.

    Clips too short for a window are left out.

    Args:
        clips: Encoded clips.
        tasks: All labels of each task, in order.
        frames: Frames in a window (T).
        frame_period: Seconds between two of them.
        kind: Which tokens of a frame the clips hold.
    """

    def __init__(
        self,
        clips: Sequence[ClipTokens],
        tasks: Mapping[str, Sequence[str]],
        *,
        frames: int,
        frame_period: float,
        kind: TokenKind = 'patches',
    ) -> None:
        self.kind = kind
        self._frames, self._frame_period = frames, frame_period
        starts = [window_starts(clip, frames=frames, frame_period=frame_period) for clip in clips]
        self._usable = [
            (clip, options) for clip, options in zip(clips, starts, strict=True) if options
        ]
        self.targets: Mapping[str, Tensor] = label_numbers(
            [clip.labels for clip, _ in self._usable], tasks
        )

    def __len__(self) -> int:
        return len(self._usable)

    def choose(self, index: int, rng: np.random.Generator) -> int:
        """Choose a frame to start at."""
        return int(rng.choice(self._usable[index][1]))

    def read(self, index: int, choice: int) -> Tensor:
        """Return the tokens of the window that starts at a frame, float32, `[t, n, d]`."""
        clip, _ = self._usable[index]
        return cut_window(clip, choice, frames=self._frames, frame_period=self._frame_period)


Metrics = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Encoded clips of the three splits."""

    train: list[ClipTokens]
    val: list[ClipTokens]
    test: list[ClipTokens]


def make_tabletop_model(recipe: Recipe, output: Path) -> Bundle:
    """Follow a recipe from nothing and write the bundle with its model card.

    Args:
        recipe: What to make.
        output: Folder of the bundle.
    """
    started = time.monotonic()
    torch.manual_seed(recipe.seed)
    backbone, losses = make_encoder(recipe)
    clips = encode_splits(recipe, backbone)
    heads = make_heads(recipe, backbone, clips, positions='learnable')
    orderless = make_heads(recipe, backbone, clips, positions='none')
    tasks = calibrated_tasks(recipe, heads, clips)
    metrics = evaluate(recipe, heads, orderless, clips)
    bundle = save_bundle(
        output,
        MultiTaskModel(backbone, heads),
        name=recipe.name,
        frame_period=recipe.frame_period,
        tasks=tasks,
        backbone_weights=BACKBONE_FILE,
        backbone_arguments=recipe.encoder.arguments,
        description='Demonstrator for the synthetic tabletop; not for real cameras.',
        license='Apache-2.0',
        provenance={
            'command': 'make model',
            'recipe': recipe.model_dump(mode='json'),
            'pretraining_loss': [round(loss, 4) for loss in losses],
            'minutes': round((time.monotonic() - started) / 60, 1),
            'cores': os.cpu_count(),
            'torch': torch.__version__,
        },
        metrics=metrics,
    )
    (output / 'README.md').write_text(model_card(bundle), encoding='utf-8')
    (output / 'metrics.json').write_text(json.dumps(metrics, indent=2) + '\n', encoding='utf-8')
    return bundle


def make_encoder(recipe: Recipe) -> tuple[Backbone, list[float]]:
    """Pre-train the encoder; return it frozen, with the mean loss of each epoch."""
    size = (recipe.image_height, recipe.image_width)
    backbone = create_backbone(
        recipe.encoder.backbone,
        weights='random',
        image_size=size,
        token_grid=recipe.token_grid,
        seed=recipe.seed,
        arguments=recipe.encoder.arguments,
    )
    frames = render_supervised_frames(
        scenes=recipe.encoder.scenes,
        per_scene=recipe.encoder.frames_per_scene,
        views=recipe.views,
        size=size[::-1],
        seed=recipe.seed,
    )
    losses = pretrain_encoder(
        backbone, frames, recipe.encoder, surfaces=len(SURFACES), seed=recipe.seed
    )
    return backbone, losses


def encode_splits(recipe: Recipe, backbone: Backbone) -> Clips:
    """Render and encode the clips of all splits; seeds only matter within a split."""
    encoder = TorchEncoder(backbone, device=torch.device('cpu'), max_batch=64)
    evaluation = recipe.evaluation

    def clips(split: str, per_action: int) -> list[ClipTokens]:
        return encode_tabletop_clips(
            encoder,
            per_action=per_action,
            split=split,
            views=recipe.views,
            size=(recipe.image_width, recipe.image_height),
            frame_period=recipe.frame_period,
            # Clear of the scenes that the encoder was pre-trained on.
            seed=1_000_000 + recipe.seed,
        )

    return Clips(
        train=clips('train', recipe.heads.clips_per_action),
        val=clips('val', evaluation.validation_clips_per_action),
        test=clips('test', evaluation.test_clips_per_action),
    )


def make_heads(
    recipe: Recipe, backbone: Backbone, clips: Clips, *, positions: Positions
) -> dict[str, Head]:
    """Fit a STEP head for each task; with `positions` none, their order-blind twins."""
    torch.manual_seed(recipe.seed)
    heads = {
        task: create_head(
            'step',
            width=backbone.width,
            frames=recipe.frames,
            tokens=backbone.tokens,
            classes=len(labels),
            attention_heads=recipe.heads.attention_heads,
            positions=positions,
        )
        for task, labels in TASKS.items()
    }
    windows = ClipWindows(
        clips.train, TASKS, frames=recipe.frames, frame_period=recipe.frame_period
    )
    fit({'heads': FitRun(heads=heads, how=recipe.heads)}, windows, seed=recipe.seed)
    return heads


def calibrated_tasks(recipe: Recipe, heads: dict[str, Head], clips: Clips) -> tuple[TaskSpec, ...]:
    """Fit each task's temperature on the validation clips."""
    answers = _answers(recipe, heads, clips.val)
    return tuple(
        TaskSpec(
            name=task,
            labels=tuple(labels),
            counterparts=COUNTERPARTS.get(task, {}),
            temperature=fit_temperature(
                answers.logits[task],
                torch.from_numpy(targets_of(clips.val, answers, task, labels)),
            ),
        )
        for task, labels in TASKS.items()
    )


def evaluate(
    recipe: Recipe, heads: dict[str, Head], orderless: dict[str, Head], clips: Clips
) -> Metrics:
    """Score the heads on the test clips: in order, reversed, and without positional embedding."""
    runs = {
        'step': _answers(recipe, heads, clips.test),
        'step_reversed': _answers(recipe, heads, clips.test, reverse=True),
        'without_positions': _answers(recipe, orderless, clips.test),
    }
    metrics: Metrics = {'test_clips': len(clips.test)}
    for run, answers in runs.items():
        metrics[run] = {
            task: {
                'clips': _clip_metrics(clips.test, answers, task),
                'windows': symmetric_metrics(
                    answers.logits[task].numpy(),
                    targets_of(clips.test, answers, task, labels),
                    labels,
                    COUNTERPARTS.get(task, {}),
                ),
            }
            for task, labels in TASKS.items()
        }
    return metrics


def _clip_metrics(
    clips: list[ClipTokens], answers: WindowPredictions, task: str
) -> dict[str, float]:
    labels = TASKS[task]
    scores_ck, chosen = clip_scores(answers.logits[task], answers.clip_w)
    targets_c = np.array([list(labels).index(clips[index].labels[task]) for index in chosen])
    return symmetric_metrics(scores_ck, targets_c, labels, COUNTERPARTS.get(task, {}))


def _answers(
    recipe: Recipe, heads: dict[str, Head], clips: list[ClipTokens], *, reverse: bool = False
) -> WindowPredictions:
    return predict_windows(
        heads, clips, frames=recipe.frames, frame_period=recipe.frame_period, reverse=reverse
    )
