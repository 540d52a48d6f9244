"""What trained heads see in windows before they decide: the features that teaching builds on.

A trained STEP head has learned, from thousands of clips, which tokens matter and in which order
the frames came. All of that lies before its last layer. So a new task needs a new last layer
alone, and that can be learned from a few examples.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from step_ros.model.heads.base import Head

# Windows that go through a head at once: a long window of many patches takes much memory.
WINDOWS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class WindowFeatures:
    """Features of the windows of some examples.

    Attributes:
        forward: For each trained head the features of the windows, `[w, d]`.
        backward: The same with the frames of each window reversed; empty where not wanted.
        example_w: Which example a window is of.
    """

    forward: Mapping[str, Tensor]
    backward: Mapping[str, Tensor]
    example_w: np.ndarray

    def of(self, examples: Sequence[int] | np.ndarray) -> 'WindowFeatures':
        """Take the windows of some examples; their numbers stay."""
        chosen = np.isin(self.example_w, np.asarray(examples))
        mask = torch.from_numpy(chosen)
        return WindowFeatures(
            forward={task: x_wd[mask] for task, x_wd in self.forward.items()},
            backward={task: x_wd[mask] for task, x_wd in self.backward.items()},
            example_w=self.example_w[chosen],
        )


def last_layer(head: Head) -> nn.Linear:
    """Return the linear layer that gives a head's logits.

    Raises:
        ValueError: The head does not end in one.
    """
    layer = getattr(head, 'classifier', None)
    if isinstance(layer, nn.Sequential):
        layer = layer[-1]
    if not isinstance(layer, nn.Linear):
        raise ValueError(f'head {head.name!r} does not end in a linear layer')
    return layer


def with_last_layer(head: Head, layer: nn.Module) -> Head:
    """Return a copy of a head that ends in another layer; all else is as it was, to the bit."""
    last_layer(head)
    copied = copy.deepcopy(head)
    if isinstance(copied.classifier, nn.Sequential):
        copied.classifier[-1] = layer
    else:
        copied.classifier = layer
    if isinstance(layer, nn.Linear):
        copied.classes = layer.out_features
    return copied.eval()


def headless(heads: Mapping[str, Head]) -> dict[str, Head]:
    """Return copies of heads that give their features, `[b, d]`, instead of logits."""
    return {task: with_last_layer(head, nn.Identity()) for task, head in heads.items()}


@torch.inference_mode()
def pool_windows(
    bodies: Mapping[str, Head], x_wtnd: Tensor, *, reverse: bool = False
) -> dict[str, Tensor]:
    """Return what each head sees in windows.

    Args:
        bodies: From `headless`.
        x_wtnd: Tokens of the windows, oldest frame first.
        reverse: Whether to turn the frames of each window round.
    """
    parts: dict[str, list[Tensor]] = {task: [] for task in bodies}
    for x_btnd in torch.split(x_wtnd, WINDOWS_AT_ONCE):
        x_btnd = x_btnd.float().flip(dims=(1,)) if reverse else x_btnd.float()
        for task, body in bodies.items():
            parts[task].append(body(x_btnd))
    return {task: torch.cat(some) for task, some in parts.items()}


def join_features(parts: Sequence[WindowFeatures]) -> WindowFeatures:
    """Put the windows of several parts behind one another."""
    return WindowFeatures(
        forward=_joined([part.forward for part in parts]),
        backward=_joined([part.backward for part in parts]),
        example_w=np.concatenate([part.example_w for part in parts]),
    )


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {task: torch.cat([part[task] for part in parts]) for task in parts[0]}
