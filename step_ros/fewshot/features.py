# SPDX-License-Identifier: Apache-2.0
"""Features for few-shot tasks: the inputs of a trained head's last layer.

A trained STEP head has learned, from thousands of clips, which tokens matter and in which order
the frames came. All of that lies before its last layer, in the head's body. A new task therefore
needs only a new last layer, and a few examples are enough to fit one.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from step_ros.model.heads.base import Head

# Windows in one batch of a head: a long window of many patches takes much memory.
WINDOWS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class WindowFeatures:
    """Features of the windows of some examples.

    Attributes:
        forward: Features of the windows, `[w, d]`, by the task of the trained head.
        backward: The same for windows with reversed frames; empty if they were not requested.
        example_w: Index of each window's example.
    """

    forward: Mapping[str, Tensor]
    backward: Mapping[str, Tensor]
    example_w: np.ndarray

    def of(self, examples: Sequence[int] | np.ndarray) -> 'WindowFeatures':
        """Return the windows of some examples; the examples keep their indices."""
        chosen = np.isin(self.example_w, np.asarray(examples))
        mask = torch.from_numpy(chosen)
        return WindowFeatures(
            forward={task: x_wd[mask] for task, x_wd in self.forward.items()},
            backward={task: x_wd[mask] for task, x_wd in self.backward.items()},
            example_w=self.example_w[chosen],
        )


def last_layer(head: Head) -> nn.Linear:
    """Return the linear layer that computes a head's logits.

    Raises:
        ValueError: The head does not end in a linear layer.
    """
    layer = getattr(head, 'classifier', None)
    if isinstance(layer, nn.Sequential):
        layer = layer[-1]
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f'head {head.name!r} does not end in a linear layer; choose a bundle whose heads do'
        )
    return layer


def with_last_layer(head: Head, layer: nn.Module) -> Head:
    """Return a copy of a head with another last layer; all other weights stay bit-identical."""
    last_layer(head)
    copied = copy.deepcopy(head)
    if isinstance(copied.classifier, nn.Sequential):
        copied.classifier[-1] = layer
    else:
        copied.classifier = layer
    if isinstance(layer, nn.Linear):
        copied.classes = layer.out_features
    return copied.eval()


def head_bodies(heads: Mapping[str, Head]) -> dict[str, Head]:
    """Return copies of heads that return features, `[b, d]`, instead of logits."""
    return {task: with_last_layer(head, nn.Identity()) for task, head in heads.items()}


@torch.inference_mode()
def pool_windows(
    bodies: Mapping[str, Head], x_wtnd: Tensor, *, reverse: bool = False
) -> dict[str, Tensor]:
    """Return each head's features of the windows, `[w, d]`, by task.

    Args:
        bodies: Heads without their last layers, from `head_bodies`.
        x_wtnd: Tokens of the windows, oldest frame first.
        reverse: Whether to reverse the frames of each window.
    """
    parts: dict[str, list[Tensor]] = {task: [] for task in bodies}
    for x_btnd in torch.split(x_wtnd, WINDOWS_AT_ONCE):
        x_btnd = x_btnd.float().flip(dims=(1,)) if reverse else x_btnd.float()
        for task, body in bodies.items():
            parts[task].append(body(x_btnd))
    return {task: torch.cat(batches) for task, batches in parts.items()}


def join_features(parts: Sequence[WindowFeatures]) -> WindowFeatures:
    """Concatenate the windows of several parts."""
    return WindowFeatures(
        forward=_concatenated([part.forward for part in parts]),
        backward=_concatenated([part.backward for part in parts]),
        example_w=np.concatenate([part.example_w for part in parts]),
    )


def _concatenated(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {task: torch.cat([part[task] for part in parts]) for task in parts[0]}
