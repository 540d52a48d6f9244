"""Fitting heads on the tokens of a frozen encoder."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from step_ros.training.clips import ClipTokens, cut_window, window_starts
from step_ros.training.progress import track
from step_ros.training.recipe import Optimisation
from step_ros.training.schedule import cosine_schedule


def fit_heads(
    heads: Mapping[str, nn.Module],
    clips: Sequence[ClipTokens],
    labels: Mapping[str, Sequence[str]],
    recipe: Optimisation,
    *,
    frames: int,
    frame_period: float,
    seed: int,
) -> None:
    """Fit the heads of all tasks at once, in place, on one random window of each clip per epoch.

    Args:
        heads: A head for each task.
        clips: Encoded training clips.
        labels: Labels of each task, in the order of its head's outputs.
        recipe: How long and how fast.
        frames: Frames in a window.
        frame_period: Seconds between two of them.
        seed: Seed of shuffling and of the windows.
    """
    rng = np.random.default_rng(seed)
    starts = [window_starts(clip, frames=frames, frame_period=frame_period) for clip in clips]
    usable = [index for index, options in enumerate(starts) if options]
    targets = {
        task: torch.tensor([list(names).index(clip.labels[task]) for clip in clips])
        for task, names in labels.items()
    }
    parameters = [parameter for head in heads.values() for parameter in head.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    steps = math.ceil(len(usable) / recipe.batch)
    schedule = cosine_schedule(optimiser, recipe.epochs * steps)
    for epoch in range(recipe.epochs):
        order = np.array_split(rng.permutation(usable), steps)
        for chosen in track(order, f'fit heads, epoch {epoch + 1}/{recipe.epochs}', steps):
            x_btnd = torch.stack(
                [
                    cut_window(
                        clips[index],
                        int(rng.choice(starts[index])),
                        frames=frames,
                        frame_period=frame_period,
                    )
                    for index in chosen
                ]
            )
            losses = [
                F.cross_entropy(head(x_btnd), targets[task][torch.as_tensor(chosen)])
                for task, head in heads.items()
            ]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()


def fit_temperature(logits_bk: Tensor, targets_b: Tensor) -> float:
    """Return the temperature that makes logits most likely (calibration on held-out data)."""
    candidates = torch.logspace(-1, 1, 201)
    losses = [F.cross_entropy(logits_bk / value, targets_b).item() for value in candidates]
    return round(float(candidates[int(np.argmin(losses))]), 4)
